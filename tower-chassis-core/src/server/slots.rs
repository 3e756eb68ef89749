use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use super::{Drain, ServerConfig};

/// The open connections of a server, counted, and what tells them to end.
pub(super) struct Slots {
    drain: Drain,
    open: AtomicUsize,
    gone: Notify,
    per_ip: Mutex<HashMap<IpAddr, u32>>,
}

impl Slots {
    pub(super) fn new(drain: Drain) -> Arc<Self> {
        Arc::new(Self {
            drain,
            open: AtomicUsize::new(0),
            gone: Notify::new(),
            per_ip: Mutex::default(),
        })
    }

    pub(super) fn drain(&self) -> &Drain {
        &self.drain
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) async fn all_gone(&self) {
        loop {
            let gone = self.gone.notified();
            if self.open.load(Ordering::Acquire) == 0 {
                return;
            }
            gone.await;
        }
    }

    fn leave(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.gone.notify_waiters();
        }
    }
}

/// Who counts as one: an IPv4 address, an IPv6 /64, which is what one client is given and can move about in.
fn one_client(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

/// A connection that counts, until it is dropped: its bytes own it, whoever reads them.
pub(super) struct Place {
    slots: Arc<Slots>,
    ip: Option<IpAddr>,
}

impl Place {
    pub(super) fn take(
        slots: &Arc<Slots>,
        ip: Option<IpAddr>,
        limits: &ServerConfig,
    ) -> Option<Self> {
        if slots.open.fetch_add(1, Ordering::AcqRel) >= limits.max_connections as usize {
            slots.leave();
            return None;
        }
        let ip = ip.map(one_client);
        let place = Self {
            slots: Arc::clone(slots),
            ip,
        };
        if let Some(ip) = ip {
            let mut per_ip = slots.per_ip.lock().unwrap_or_else(PoisonError::into_inner);
            let count = per_ip.entry(ip).or_default();
            *count += 1;
            if *count > limits.max_connections_per_ip {
                drop(per_ip);
                return None;
            }
        }
        Some(place)
    }

    pub(super) fn drain(&self) -> &Drain {
        &self.slots.drain
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(ip) = self.ip {
            let mut per_ip = self
                .slots
                .per_ip
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = per_ip.get_mut(&ip) {
                *count -= 1;
                if *count == 0 {
                    per_ip.remove(&ip);
                }
            }
        }
        self.slots.leave();
    }
}

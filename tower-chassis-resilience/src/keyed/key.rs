use std::{
    fmt,
    marker::PhantomData,
    net::{IpAddr, Ipv6Addr},
};

/// Finds whose call it is: [`One`] state for all, or one [`By`] key.
pub trait KeyOf<Req, K>: sealed::Sealed {
    /// The key of a request; `None` is the state of those that have none.
    fn key_of(&self, request: &Req) -> Option<K>;
}

pub(crate) mod sealed {
    pub trait Sealed {}
    impl Sealed for super::One {}
    impl<F, K> Sealed for super::By<F, K> {}
}

/// All calls use one state.
#[derive(Clone, Copy, Debug, Default)]
pub struct One;

impl<Req> KeyOf<Req, ()> for One {
    fn key_of(&self, _: &Req) -> Option<()> {
        None
    }
}

/// Each key that a closure finds has a state of its own.
pub struct By<F, K>(F, PhantomData<fn() -> K>);

impl<F, K> By<F, K> {
    pub(crate) const fn new(f: F) -> Self {
        Self(f, PhantomData)
    }
}

impl<F, K> fmt::Debug for By<F, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("By").finish_non_exhaustive()
    }
}

impl<F, Req, K> KeyOf<Req, K> for By<F, K>
where
    F: Fn(&Req) -> Option<K>,
{
    fn key_of(&self, request: &Req) -> Option<K> {
        (self.0)(request)
    }
}

/// The key of a client address: IPv4 as it is, also where it is mapped into IPv6, and of IPv6 the
/// /64, because that is what one client is given and can move about in.
///
/// ```
/// use tower_chassis_resilience::keyed::ip_key;
///
/// assert_eq!(ip_key("2001:db8:1:2:3:4:5:6".parse()?), "2001:db8:1:2::".parse::<std::net::IpAddr>()?);
/// assert_eq!(ip_key("::ffff:192.0.2.7".parse()?), "192.0.2.7".parse::<std::net::IpAddr>()?);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[must_use]
pub fn ip_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

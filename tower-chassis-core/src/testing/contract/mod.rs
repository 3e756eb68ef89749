//! The laws of layers, tried on a layer.

mod bench;
mod case;
mod law;
mod laws;
mod report;
mod script;
mod subject;

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use tokio::{runtime::Builder, task::coop::unconstrained};

use self::bench::Bench;
pub use self::{
    case::{Case, Step},
    law::Law,
    report::{Finding, Report, Skipped},
    subject::{Answer, Reply},
};
use super::{Control, ControlledService};

/// How long a law may take by the clock on the wall. Only a layer that blocks its thread takes longer than a
/// fraction of a second.
const REAL_BOUND: Duration = Duration::from_secs(60);

/// Tries all [laws](Law) on a layer.
///
/// `make` is called for each scene, so that each begins with a new state; it runs on a thread of its own, in a
/// current-thread runtime whose clock is paused. What it makes need not be `Send`.
///
/// ```
/// use tower_chassis_core::{RescueLayer, testing::{Case, contract}};
///
/// contract(|| Case::new(RescueLayer::new()).answers().calls_once()).assert();
/// ```
pub fn contract(make: impl Fn() -> Case + Send + Sync + 'static) -> Report {
    run(&Arc::new(Rig {
        make: Box::new(move || {
            let case = make();
            let control = case.control.clone();
            (case, control.unwrap_or_default())
        }),
        blocks: AtomicBool::new(false),
    }))
}

/// Tries all [laws](Law) on a service that has no layer: `make` builds it around the inner service that it gets.
///
/// ```
/// use tower_chassis_core::testing::{Case, contract_service};
///
/// contract_service(|inner| Case::service(inner)).assert();
/// ```
pub fn contract_service(
    make: impl Fn(ControlledService) -> Case + Send + Sync + 'static,
) -> Report {
    run(&Arc::new(Rig {
        make: Box::new(move || {
            let inner = ControlledService::new();
            let control = inner.control();
            (make(inner), control)
        }),
        blocks: AtomicBool::new(false),
    }))
}

/// Makes what the laws are tried on.
struct Rig {
    make: Box<dyn Fn() -> (Case, Control) + Send + Sync>,
    /// The probe was found to block while a call is under way, so it is read in quiet times only.
    blocks: AtomicBool,
}

impl Rig {
    /// A new case, in the state that it wants to begin with.
    async fn bench(&self) -> Bench {
        let (case, control) = (self.make)();
        let blocks = self.blocks.load(Ordering::Relaxed);
        Bench::new(case, control, blocks).await
    }
}

/// What trying one law gave.
#[derive(Default)]
struct Tried {
    found: Vec<String>,
    skipped: Vec<String>,
}

fn run(rig: &Arc<Rig>) -> Report {
    let mut report = Report::default();
    let about = on_a_thread(rig, async |rig| {
        let bench = rig.bench().await;
        (bench.case.skipped.clone(), bench.future_size())
    });
    let declared = match about {
        Ok((declared, size)) => {
            report.future_size = size;
            declared
        }
        Err(what) => {
            let law = Law::ReadsGoOn;
            report.findings.push(Finding {
                law,
                what: format!("the case could not be made: {what}"),
            });
            return report;
        }
    };
    for law in Law::ALL.iter().copied() {
        let why: Vec<_> = declared.iter().filter(|(skip, _)| *skip == law).collect();
        if !why.is_empty() {
            let why = why.into_iter().map(|(law, why)| Skipped {
                law: *law,
                why: why.clone(),
            });
            report.skipped.extend(why);
            continue;
        }
        match on_a_thread(rig, async move |rig| {
            let mut tried = Tried::default();
            laws::try_law(law, &rig, &mut tried).await;
            tried
        }) {
            Ok(Tried { mut found, skipped }) => {
                found.dedup();
                if law == Law::ReadsGoOn && !found.is_empty() {
                    rig.blocks.store(true, Ordering::Relaxed);
                }
                report
                    .findings
                    .extend(found.into_iter().map(|what| Finding { law, what }));
                report
                    .skipped
                    .extend(skipped.into_iter().map(|why| Skipped { law, why }));
            }
            Err(what) => report.findings.push(Finding { law, what }),
        }
    }
    report
}

/// Runs `work` on a new thread with a paused clock; says so if it panics or blocks.
fn on_a_thread<T, F>(rig: &Arc<Rig>, work: F) -> Result<T, String>
where
    T: Send + 'static,
    F: AsyncFnOnce(Arc<Rig>) -> T + Send + 'static,
{
    let rig = Arc::clone(rig);
    let (done, outcome) = mpsc::channel();
    let thread = thread::spawn(move || {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
        match runtime {
            // Polls by hand are no tasks: the budget of the one task that they share must not end them.
            Ok(runtime) => {
                let output = runtime.block_on(unconstrained(work(rig)));
                drop(done.send(Ok(output)));
            }
            Err(error) => drop(done.send(Err(format!("no runtime: {error}")))),
        }
    });
    match outcome.recv_timeout(REAL_BOUND) {
        Ok(outcome) => outcome,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            Err(format!("the thread was blocked for {REAL_BOUND:?}"))
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(match thread.join() {
            Err(panic) => format!("panicked: {}", text_of(&*panic)),
            Ok(()) => "ended without a word".to_owned(),
        }),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

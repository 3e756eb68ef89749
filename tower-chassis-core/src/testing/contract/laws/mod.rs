mod passing;
mod readiness;
mod release;
mod sharing;
mod waiting;

use super::{Law, Rig, Tried};

/// Tries one law, in all of its scenes.
pub(super) async fn try_law(law: Law, rig: &Rig, tried: &mut Tried) {
    match law {
        Law::ReadiedIsCalled => readiness::readied_is_called(rig, tried).await,
        Law::CloneStartsUnready => readiness::clone_starts_unready(rig, tried).await,
        Law::RepeatedReady => readiness::repeated_ready(rig, tried).await,
        Law::RefusesInCall => readiness::refuses_in_call(rig, tried).await,
        Law::DroppedReady => release::dropped_ready(rig, tried).await,
        Law::DroppedFuture => release::dropped_future(rig, tried).await,
        Law::DroppedBody => release::dropped_body(rig, tried).await,
        Law::InnerError => release::inner_error(rig, tried).await,
        Law::InnerPanic => release::inner_panic(rig, tried).await,
        Law::SelfWake => waiting::self_wake(rig, tried).await,
        Law::AllWaitersWake => waiting::all_waiters_wake(rig, tried).await,
        Law::WaiterGivesUp => waiting::waiter_gives_up(rig, tried).await,
        Law::LatestWaker => waiting::latest_waker(rig, tried).await,
        Law::SharedState => sharing::shared_state(rig, tried).await,
        Law::CallsGoOn => sharing::calls_go_on(rig, tried).await,
        Law::ReadsGoOn => sharing::reads_go_on(rig, tried).await,
        Law::LimitHolds => sharing::limit_holds(rig, tried).await,
        Law::ErrorIsKept => passing::error_is_kept(rig, tried).await,
        Law::NotPolledAfterEnd => passing::not_polled_after_end(rig, tried).await,
        Law::CallsOnce => passing::calls_once(rig, tried).await,
        Law::BodyPasses => passing::body_passes(rig, tried).await,
    }
}

//! Members woken on a change that another process has made, where that process may not wake them.
//!
//! Under Yama's `ptrace_scope` 1 an ordinary user may look into descendants only. Whoever changes a named namespace
//! there wakes nobody, but announces the change to the supervisors, each of which wakes its own members.

use crate::namespace::Inner;
use crate::plan::Maps;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The last state of the page by which a process's members have been woken.
#[derive(Debug, Default)]
pub(crate) struct Watched(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How many trees of this process are watched for.
    users: usize,
    /// The maps and the counter; there is a user where they are wanted.
    seen: Option<(Maps, u32)>,
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that waits for changes.
pub(crate) struct Watch {
    namespace: Arc<Inner>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Watches for a tree of members, where that has to be. Call it before there are any.
    pub(crate) fn start(namespace: &Arc<Inner>) -> Option<Self> {
        if !namespace.delegates {
            return None;
        }
        let page = namespace.page.page();
        let counter = {
            let mut state = namespace.watched.lock();
            state.users += 1;
            // The counter first: a change between the two is seen once more, and then changes nothing.
            let (counter, maps) = (page.begin().counter(), page.maps());
            state.seen.get_or_insert((maps, counter)).1
        };
        let stop = Arc::<AtomicBool>::default();
        let worker = (Arc::clone(namespace), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let (namespace, stop) = worker;
            let mut seen = counter;
            while !stop.load(Ordering::Relaxed) {
                namespace.page.await_change(seen);
                match namespace.catch_up() {
                    Ok(counter) => seen = counter,
                    // Somebody is stuck while writing; the change is not forgotten.
                    Err(error) => namespace.report(&error.to_string()),
                }
            }
        });
        Some(Self { namespace: Arc::clone(namespace), stop, thread })
    }

    /// Ends the thread; its members have ended.
    pub(crate) fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        while !self.thread.is_finished() {
            // It may have looked at `stop` just before, and not be waiting yet.
            self.namespace.page.announce();
            thread::sleep(Duration::from_millis(1));
        }
        let mut state = self.namespace.watched.lock();
        state.users -= 1;
        if state.users == 0 {
            state.seen = None;
        }
    }
}

impl Inner {
    /// Wakes members for what has changed since that was last done. Returns the page's counter.
    fn catch_up(&self) -> crate::Result<u32> {
        // Who writes has finished then: nothing lies ahead that is about to be settled.
        let _writer = self.writer()?;
        let page = self.page.page();
        let (counter, maps) = (page.begin().counter(), page.maps());
        let mut state = self.watched.lock();
        if let Some((before, old)) = state.seen
            && old != counter
        {
            self.wake_members(&before, old);
            state.seen = Some((maps, counter));
        }
        Ok(counter)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Namespace, Rate, Spec};
    use std::time::{Duration, Instant};

    #[test]
    fn a_supervisor_wakes_its_members_for_a_change_that_another_has_announced() {
        let name = format!("announced-{}", std::process::id());
        let spec = Spec::new().adjustable().with_name(&name).unwrap();
        let supervisor = Namespace::new(&spec).unwrap().delegating();
        let mut children: Vec<_> = (0..2).map(|_| supervisor.command("sleep").arg("2000").spawn().unwrap()).collect();
        std::thread::sleep(Duration::from_millis(200));
        let other = Namespace::open(&name).unwrap().delegating();
        other.set(&Spec::new().rate(Rate::MAX)).unwrap();
        let started = Instant::now();
        while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
            assert!(started.elapsed() < Duration::from_secs(30), "they sleep on");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(started.elapsed() > Duration::from_secs(1), "they end too early");
        for child in &mut children {
            child.wait_members();
        }
        drop((children, supervisor, other));
        assert!(Namespace::open(&name).unwrap_err().is_not_found());
    }
}

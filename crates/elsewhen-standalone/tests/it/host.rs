//! A page that is kept right by a thread, and the host's clocks.

use elsewhen_standalone::data::DataPage;
use elsewhen_standalone::load::{self, PageFile, Vdso};
use elsewhen_standalone::timekeeper::{Config, Sample, Timekeeper};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often the clocks that are followed are looked at.
const UPDATE: Duration = Duration::from_millis(10);

/// A thread that keeps pages right.
pub(crate) struct Keeper {
    pub(crate) page: Arc<PageFile>,
    more: Arc<Mutex<Vec<Arc<PageFile>>>>,
    stop: Arc<AtomicBool>,
    worst_ns: Arc<AtomicI64>,
    thread: Option<JoinHandle<()>>,
}

pub(crate) fn sample() -> Sample {
    Sample::take(load::ticks, load::host_ns, 16)
}

/// A timekeeper with a patience that a loaded machine does not exhaust.
pub(crate) fn timekeeper() -> Timekeeper {
    let first = sample();
    thread::sleep(Duration::from_millis(100));
    let config = Config { patience_ns: 8_000_000_000, ..Config::default() };
    Timekeeper::calibrate(&first, &sample(), config).unwrap()
}

impl Keeper {
    pub(crate) fn start() -> Self {
        Self::start_publishing(UPDATE)
    }

    /// Publishes more often than the clocks that are followed are looked at.
    pub(crate) fn start_publishing(every: Duration) -> Self {
        let page = Arc::new(PageFile::new().unwrap());
        let more = Arc::new(Mutex::new(vec![Arc::clone(&page)]));
        let (stop, worst_ns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let mut timekeeper = timekeeper();
        timekeeper.publish(&[&page], load::ticks);
        let thread = {
            let (more, stop, worst_ns) = (Arc::clone(&more), Arc::clone(&stop), Arc::clone(&worst_ns));
            thread::spawn(move || {
                let mut updated = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    thread::sleep(every);
                    if updated.elapsed() >= UPDATE {
                        updated = Instant::now();
                        timekeeper.update(&sample());
                        worst_ns.store(timekeeper.worst_ns(), Ordering::Relaxed);
                    }
                    let pages = more.lock().unwrap();
                    let pages: Vec<&DataPage> = pages.iter().map(|page| &***page).collect();
                    timekeeper.publish(&pages, load::ticks);
                }
            })
        };
        Self { page, more, stop, worst_ns, thread: Some(thread) }
    }

    /// Keeps another page right too.
    pub(crate) fn keep(&self, page: &Arc<PageFile>) {
        if !Arc::ptr_eq(page, &self.page) {
            self.more.lock().unwrap().push(Arc::clone(page));
            // Until it has been written.
            while page.hres.mode.load(Ordering::Relaxed) == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// The largest error that the timekeeper has found.
    pub(crate) fn worst_ns(&self) -> i64 {
        self.worst_ns.load(Ordering::Relaxed)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Enters or leaves, in a test with one thread that reads.
pub(crate) fn switch(vdso: &Vdso, member: bool) {
    // SAFETY: no other thread is in the image.
    unsafe { vdso.switch_stopped(member) }.unwrap();
}

//! Entering a namespace while threads read, by designs that do not allow it: what happens in a child process, and how
//! threads are stopped so that it does not.

use crate::host::Keeper;
use elsewhen_standalone::flavour::{FLAVOURS, Flavour, named};
use elsewhen_standalone::load::Vdso;
use elsewhen_standalone::timekeeper::Clock;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const CHILD: &str = "ELSEWHEN_SWITCH_UNSAFELY";
/// Of the child, where a thread has read what no clock shows.
const WRONG: i32 = 3;

fn unsafe_flavours() -> impl Iterator<Item = &'static Flavour> {
    FLAVOURS.iter().filter(|flavour| !flavour.switch.is_safe())
}

/// Reads until told to stop; false where a reading is of neither side.
fn reads_well(vdso: &Vdso, stop: &AtomicBool) -> bool {
    let mut before = vdso.clock_gettime(1).unwrap();
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..1000 {
            let read = vdso.clock_gettime(1).unwrap();
            // On one side or the other, a day away, and not for longer than any pause.
            let moved = (read.sec - before.sec).rem_euclid(86_400);
            if moved > 60 && moved < 86_400 - 60 {
                return false;
            }
            before = read;
        }
    }
    true
}

/// Not a test of its own: the child of [`switching_under_threads_is_caught`].
#[test]
fn child_that_switches_under_threads() {
    let Ok(name) = std::env::var(CHILD) else { return };
    let keeper = Keeper::start();
    let vdso = Vdso::map(named(&name).unwrap(), &keeper.page).unwrap();
    vdso.set_offset(1, 86_400, 0).unwrap();
    let stop = AtomicBool::new(false);
    let well = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(|| reads_well(&vdso, &stop))).collect();
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end && readers.iter().all(|reader| !reader.is_finished()) {
            for member in [true, false] {
                // SAFETY: none; that is the point.
                unsafe { vdso.switch_stopped(member) }.unwrap();
            }
        }
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().all(|reader| reader.join().unwrap())
    });
    std::process::exit(if well { 0 } else { WRONG });
}

/// What became of a child that switched under its threads; `None` where nothing did.
fn caught(flavour: &Flavour) -> Option<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "unsafe_switching::child_that_switches_under_threads", "--nocapture"])
        .env(CHILD, flavour.name)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            return match (status.code(), status.signal()) {
                (Some(0), _) => None,
                (Some(WRONG), _) => Some("read what no clock shows".to_owned()),
                (_, Some(signal @ (libc::SIGSEGV | libc::SIGILL | libc::SIGBUS | libc::SIGFPE | libc::SIGTRAP))) => {
                    Some(format!("died of signal {signal}"))
                }
                _ => panic!("{}: {status}", flavour.name),
            };
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // Executes in circles what no compiler has made.
    Some("hung".to_owned())
}

#[test]
fn switching_under_threads_is_caught() {
    for flavour in unsafe_flavours() {
        // A busy machine may take more than one.
        let how = (0..5).find_map(|_| caught(flavour));
        println!("{}: a child that switched under its threads {how:?}", flavour.name);
        assert!(how.is_some(), "{}: nothing happened", flavour.name);
    }
}

#[test]
fn switching_under_threads_is_refused_where_it_is_not_safe() {
    let page = std::sync::Arc::new(elsewhen_standalone::load::PageFile::new().unwrap());
    for flavour in unsafe_flavours() {
        let vdso = Vdso::map(flavour, &page).unwrap();
        assert!(vdso.enter().is_err() && vdso.leave().is_err(), "{}", flavour.name);
    }
}

/// Where the image is, what the stopped threads wait for, and how many have stopped, or were in the image.
static CODE: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];
static GO_ON: AtomicU32 = AtomicU32::new(0);
static STOPPED: AtomicU32 = AtomicU32::new(0);
static INSIDE: AtomicU32 = AtomicU32::new(0);

/// Holds the thread until it may go on, unless it is in the image: then it goes on at once, and is asked again.
extern "C" fn stop_here(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands a ucontext to handlers with SA_SIGINFO.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    let at = context.uc_mcontext.gregs[libc::REG_RIP as usize] as usize;
    if (CODE[0].load(Ordering::Relaxed)..CODE[1].load(Ordering::Relaxed)).contains(&at) {
        INSIDE.fetch_add(1, Ordering::SeqCst);
        return;
    }
    let round = GO_ON.load(Ordering::SeqCst);
    STOPPED.fetch_add(1, Ordering::SeqCst);
    while GO_ON.load(Ordering::SeqCst) == round {
        // SAFETY: takes no arguments, and may be called in handlers.
        unsafe { libc::sched_yield() };
    }
}

/// Stops threads outside the image; returns how often one was asked again.
fn stop(threads: &[libc::pthread_t]) -> u64 {
    let mut again = 0;
    STOPPED.store(0, Ordering::SeqCst);
    for (stopped, thread) in (1..).zip(threads) {
        loop {
            let inside = INSIDE.load(Ordering::SeqCst);
            // SAFETY: the threads run until they are joined.
            assert_eq!(unsafe { libc::pthread_kill(*thread, libc::SIGUSR1) }, 0);
            let end = Instant::now() + Duration::from_secs(20);
            while STOPPED.load(Ordering::SeqCst) < stopped && INSIDE.load(Ordering::SeqCst) == inside {
                assert!(Instant::now() < end, "a thread does not stop");
                std::thread::yield_now();
            }
            if STOPPED.load(Ordering::SeqCst) == stopped {
                break;
            }
            again += 1;
        }
    }
    again
}

#[test]
fn threads_that_are_stopped_outside_the_image_survive_every_design() {
    let mut action: libc::sigaction = {
        // SAFETY: all zeros are a value of it.
        unsafe { std::mem::zeroed() }
    };
    action.sa_sigaction = stop_here as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: the handler does only what handlers may.
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) }, 0);
    let keeper = Keeper::start();
    for flavour in unsafe_flavours() {
        let vdso = Vdso::map(flavour, &keeper.page).unwrap();
        Clock::ALL.into_iter().for_each(|clock| vdso.set_offset(clock.id(), 86_400, 0).unwrap());
        CODE[0].store(vdso.code().start, Ordering::Relaxed);
        CODE[1].store(vdso.code().end, Ordering::Relaxed);
        let (end_now, threads) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        let (mut switches, mut again) = (0, 0);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        // SAFETY: takes no arguments.
                        threads.lock().unwrap().push(unsafe { libc::pthread_self() });
                        reads_well(&vdso, &end_now)
                    })
                })
                .collect();
            while threads.lock().unwrap().len() < 2 {
                std::thread::yield_now();
            }
            let threads = threads.lock().unwrap().clone();
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(2) || switches < 200 {
                again += stop(&threads);
                // SAFETY: all threads that read stand outside the image.
                unsafe { vdso.switch_stopped(switches % 2 == 0) }.unwrap();
                switches += 1;
                GO_ON.fetch_add(1, Ordering::SeqCst);
            }
            end_now.store(true, Ordering::Relaxed);
            for reader in readers {
                assert!(reader.join().unwrap(), "{}: a reading of neither side", flavour.name);
            }
        });
        println!("{}: {switches} switches, {again} times a thread was in the image and went on first", flavour.name);
    }
}

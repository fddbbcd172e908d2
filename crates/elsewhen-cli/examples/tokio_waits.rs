//! Waits, in every way that tokio has, for the tests; the conversation is that of `tests/guests/waits.c`.
//!
//! Without its driver for input and output tokio waits on a condition variable, with it in `epoll_wait(2)`.

use std::future::{pending, poll_fn};
use std::io;
use std::time::{Duration, Instant, SystemTime};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{interval, sleep, sleep_until, timeout};

const WAYS: [&str; 7] = [
    "condvar-sleep",
    "condvar-timeout",
    "condvar-interval",
    "epoll-sleep",
    "epoll-sleep_until",
    "epoll-interval",
    "epoll-timeout-of-a-read",
];

fn main() -> io::Result<()> {
    let condvar = Builder::new_current_thread().enable_time().build()?;
    let epoll = Builder::new_current_thread().enable_all().build()?;
    println!("ways {}", WAYS.join(" "));
    for line in io::stdin().lines() {
        let line = line?;
        let (way, length) = line.split_once(' ').and_then(|(way, ns)| Some((way, ns.parse().ok()?))).expect("WAY NS");
        let runtime = if way.starts_with("condvar") { &condvar } else { &epoll };
        let (monotonic, realtime) = (Instant::now(), SystemTime::now());
        wait(runtime, way, Duration::from_nanos(length));
        let realtime = realtime.elapsed().expect("time goes forward");
        println!("{length} {} {}", monotonic.elapsed().as_nanos(), realtime.as_nanos());
    }
    Ok(())
}

fn wait(runtime: &Runtime, way: &str, length: Duration) {
    runtime.block_on(async {
        match way {
            "condvar-sleep" | "epoll-sleep" => sleep(length).await,
            "epoll-sleep_until" => sleep_until(tokio::time::Instant::now() + length).await,
            "condvar-timeout" => assert!(timeout(length, pending::<()>()).await.is_err(), "what never comes came"),
            "condvar-interval" | "epoll-interval" => {
                let mut interval = interval(length / 4);
                // The first tick is now.
                for _ in 0..=4 {
                    interval.tick().await;
                }
            }
            "epoll-timeout-of-a-read" => {
                let (ours, _theirs) = UnixStream::pair().expect("a pair of sockets");
                let read = timeout(length, poll_fn(|context| ours.poll_read_ready(context))).await;
                assert!(read.is_err(), "something was received");
            }
            _ => panic!("no way to wait is called {way}"),
        }
    });
}

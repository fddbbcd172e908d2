//! A data page that a thread keeps right, and an image that serves clocks from it: for threads that are in no namespace, and
//! for a second image's, which are an hour ahead and enter while they read.
//!
//! `cargo run -p elsewhen-standalone --features std --example serve`

use elsewhen_standalone::load::{self, PageFile, Vdso};
use elsewhen_standalone::timekeeper::{Clock, Config, Sample, Timekeeper};
use elsewhen_standalone::{flavour, read::Time};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    // What is followed. A kernel would have its own clock here, a hypervisor its host's.
    let sample = || Sample::take(load::ticks, load::host_ns, 16);
    let first = sample();
    thread::sleep(Duration::from_millis(100));
    let mut timekeeper = Timekeeper::calibrate(&first, &sample(), Config::default())?;
    let page = Arc::new(PageFile::new()?);
    timekeeper.publish(&[&page], load::ticks);

    // One page for everybody; an image for each process. Here two, as if they were two processes.
    let design = flavour::named("timens-page").ok_or("the crate was built without that design")?;
    let (outside, inside) = (Vdso::map(design, &page)?, Vdso::map(design, &page)?);
    for clock in [0, 1, 5, 6, 7, 11] {
        inside.set_offset(clock, 3600, 0)?;
    }
    println!(
        "image at {:#x}, {} bytes of code, counter at {} Hz",
        inside.address(),
        design.text_len,
        timekeeper.frequency()
    );

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let keeper = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(10));
                timekeeper.update(&sample());
                timekeeper.publish(&[&page], load::ticks);
            }
            timekeeper.worst_ns()
        });
        for round in 0..4 {
            thread::sleep(Duration::from_millis(250));
            if round == 2 {
                inside.enter()?;
                println!("the second process enters");
            }
            let host = load::host_ns(Clock::Monotonic);
            let [outside, inside] = [&outside, &inside].map(|vdso| vdso.clock_gettime(Clock::Monotonic.id()));
            println!("host {}  outside {}  inside {}", seconds(host), shown(outside?), shown(inside?));
        }
        stop.store(true, Ordering::Relaxed);
        let worst = keeper.join().map_err(|_| "the timekeeper has died")?;
        println!("the largest error of the page was {worst} ns");
        Ok(())
    })
}

fn shown(time: Time) -> String {
    format!("{}.{:09}", time.sec, time.nsec)
}

fn seconds(ns: i64) -> String {
    format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}

//! Prints what the clocks of Rust's standard library read: lines `CLOCK RESOLUTION_NS VALUE_NS`.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

fn main() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    println!("0 1 {}", now.as_nanos());
    // `Instant { tv_sec: 12, tv_nsec: 34 }`: the only way to its number.
    let shown = format!("{:?}", Instant::now());
    let numbers: Vec<u64> =
        shown.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
    println!("1 1 {}", numbers[0] * 1_000_000_000 + numbers[1]);
}

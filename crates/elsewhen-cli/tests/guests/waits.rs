//! Waits, in every way that Rust's standard library has; the conversation is that of waits.c.

use std::io::{BufRead, ErrorKind, Read};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

fn condvar(length: Duration) {
    let mutex = Mutex::new(());
    let guard = mutex.lock().unwrap();
    let (_guard, result) = Condvar::new().wait_timeout_while(guard, length, |()| true).unwrap();
    assert!(result.timed_out());
}

fn channel_receive(length: Duration) {
    let (sender, receiver) = channel::<()>();
    assert_eq!(receiver.recv_timeout(length), Err(RecvTimeoutError::Timeout));
    drop(sender);
}

fn park(length: Duration) {
    // It may end early by itself, so this waits as its documentation says.
    let start = Instant::now();
    while let Some(left) = length.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}

fn stream(length: Duration) {
    let (mut ours, _theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(length)).unwrap();
    // What was asked for is what is set.
    assert!(ours.read_timeout().unwrap().unwrap() >= length);
    assert_eq!(ours.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

fn datagrams(length: Duration) {
    let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
    ours.set_read_timeout(Some(length)).unwrap();
    assert_eq!(ours.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

const WAYS: [(&str, fn(Duration)); 6] = [
    ("thread::sleep", thread::sleep),
    ("wait_timeout", condvar),
    ("recv_timeout", channel_receive),
    ("park_timeout", park),
    ("set_read_timeout-unix", stream),
    ("set_read_timeout-udp", datagrams),
];

fn main() {
    println!("ways {}", WAYS.map(|(name, _)| name).join(" "));
    for line in std::io::stdin().lock().lines().map(Result::unwrap) {
        let (name, ns) = line.split_once(' ').unwrap();
        let (_, wait) = WAYS.iter().find(|way| way.0 == name).unwrap();
        let (monotonic, realtime) = (Instant::now(), SystemTime::now());
        wait(Duration::from_nanos(ns.parse().unwrap()));
        let realtime = realtime.elapsed().unwrap();
        println!("{ns} {} {}", monotonic.elapsed().as_nanos(), realtime.as_nanos());
    }
}

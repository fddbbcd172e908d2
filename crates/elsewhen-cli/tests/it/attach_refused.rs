//! Where processes that run cannot be entered, that is said, and they go on as they were.

use crate::harness::*;
use std::process::{Command, Stdio};

#[test]
fn a_running_process_is_refused_with_the_reason() {
    let mut guest = Command::new(guest("clocks"));
    guest.arg("ask").stdin(Stdio::piped());
    let guest = start(guest);
    let id = guest.id().as_raw_nonzero().to_string();
    for arguments in [&["attach", "-t", &id, "--offset", "1d"][..], &["detach", "-t", &id]] {
        let mut attach = Command::new(ELSEWHEN);
        attach.args(arguments);
        let outcome = run_quietly(attach);
        assert_eq!(outcome.code(), 125, "{outcome:?}");
        assert!(outcome.stderr.contains("start it with `elsewhen run`"), "{outcome:?}");
    }
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    assert!(status.contains("TracerPid:\t0") && status.contains("Seccomp:\t0"), "{status}");
    guest.finish().success();
}

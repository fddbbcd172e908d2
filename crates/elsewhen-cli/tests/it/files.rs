//! File times: the host's by default, the member's where files follow.

use crate::harness::*;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

const FOLLOW: &[&str] = &["--offset", "10d", "--files", "follow"];
/// A date of the guest's, with a part that microseconds hold.
const SECONDS: i64 = 1_600_000_000;
const NANOSECONDS: i64 = 123_456_000;

/// The host's REALTIME, in nanoseconds.
fn host_realtime() -> i128 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    i128::from(time.tv_sec) * SECOND + i128::from(time.tv_nsec)
}

/// What the guest prints.
fn told(command: Command, path: &Path, way: &str) -> String {
    let mut command = command;
    command.arg(path).args([way, &SECONDS.to_string(), &NANOSECONDS.to_string()]);
    run_quietly(command).success().stdout
}

/// When a file was modified, in nanoseconds, as the host sees it.
fn modified(path: &Path) -> i128 {
    let metadata = fs::metadata(path).unwrap();
    i128::from(metadata.mtime()) * SECOND + i128::from(metadata.mtime_nsec())
}

#[test]
fn times_that_are_set_read_back_and_are_stored_by_the_hosts_clock() {
    let (folder, guest) = (Folder::new("files"), guest("files"));
    let asked = i128::from(SECONDS + 1) * SECOND;
    // Of which not every machine has a call.
    let old = if cfg!(target_arch = "x86_64") { &["utimes", "futimesat", "utime"][..] } else { &[] };
    for way in ["utimensat", "futimens", "omit"].iter().chain(old).copied() {
        let (native, inside) = (folder.at(&format!("native-{way}")), folder.at(&format!("inside-{way}")));
        let outside = told(Command::new(&guest), &native, way);
        let within = told(elsewhen(FOLLOW, &guest), &inside, way);
        if way == "omit" {
            // The time of access is that of the file's making.
            let last = |text: &str| -> Vec<String> {
                text.lines().filter_map(|line| line.rsplit(' ').next()).map(str::to_owned).collect()
            };
            assert_eq!(last(&within), last(&outside), "{way}");
        } else {
            assert_eq!(within, outside, "{way}");
        }
        let fraction = if way == "utime" { 0 } else { i128::from(NANOSECONDS) };
        assert_eq!(modified(&inside), asked + fraction - 10 * DAY, "{way}");
    }
}

#[test]
fn times_of_now_are_the_hosts_and_seen_by_the_members_clock() {
    let (folder, guest) = (Folder::new("files-now"), guest("files"));
    for way in ["now", "null"] {
        let path = folder.at(way);
        let before = host_realtime();
        let text = told(elsewhen(FOLLOW, &guest), &path, way);
        let after = host_realtime();
        // Stamps are as of the last tick.
        let tick = SECOND / 50;
        assert!((before - tick..=after).contains(&modified(&path)), "{way}");
        for line in text.lines().filter(|line| line.contains("stat")) {
            let seen: i128 = line.rsplit(' ').next().unwrap().parse().unwrap();
            assert_eq!(seen, modified(&path) + 10 * DAY, "{way}: {line}");
        }
    }
}

#[test]
fn times_read_back_at_any_pace_and_while_the_clock_stands() {
    let (folder, guest) = (Folder::new("files-pace"), guest("files"));
    for flags in [["--rate", "10"], ["--rate", "1/3"], ["--freeze=all", "--adjustable"]] {
        let mut all = vec!["--at", "2031-05-01T00:00:00Z", "--files", "follow"];
        all.extend(flags);
        let text = told(elsewhen(&all, &guest), &folder.at("file"), "utimensat");
        let wanted = i128::from(SECONDS + 1) * SECOND + i128::from(NANOSECONDS);
        for line in text.lines().filter(|line| line.contains("stat")) {
            let seen: i128 = line.rsplit(' ').next().unwrap().parse().unwrap();
            // One way rounds up, the other down; a nanosecond of the host's is ten of a member's.
            assert!((wanted..=wanted + 10).contains(&seen), "{flags:?}: {line}");
        }
    }
}

#[test]
fn by_default_times_are_the_hosts() {
    let (folder, guest) = (Folder::new("files-real"), guest("files"));
    let native = told(Command::new(&guest), &folder.at("file"), "utimensat");
    assert_eq!(told(elsewhen(&["--offset", "10d"], &guest), &folder.at("file"), "utimensat"), native);
}

#[test]
fn make_find_and_touch_agree_with_the_clock() {
    let folder = Folder::new("files-tools");
    fs::write(folder.at("old"), "").unwrap();
    let script = "touch new && stat -c %Y new && date +%s && find . -name new -mmin -1 && find . -name old -mmin -1 \
                  && test new -nt old && touch -d '2001-02-03 04:05:06' set && stat -c %y set | cut -c 1-19";
    let mut command = elsewhen(FOLLOW, "/bin/sh");
    command.args(["-c", script]).current_dir(folder.path()).env("TZ", "UTC");
    let text = run_quietly(command).success().stdout;
    let lines: Vec<&str> = text.lines().collect();
    let [touched, date, "./new", "./old", "2001-02-03 04:05:06"] = lines[..] else { panic!("{text}") };
    let (touched, date): (i64, i64) = (touched.parse().unwrap(), date.parse().unwrap());
    assert!((touched..touched + 60).contains(&date), "{text}");
}

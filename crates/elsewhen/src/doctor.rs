//! What would and would not be intercepted, here, for a program or a process, and why.

use crate::error::Result;
use crate::namespace::Namespace;
use crate::spec::{Family, Spec};
use elsewhen_linux::clock;
use elsewhen_linux::probe::{self, Capability};
use elsewhen_linux::program::{AT_FDCWD, Caller, Entry};
use elsewhen_linux::redirect::HostVdso;
use elsewhen_linux::remote::Tid;
use elsewhen_vdso::clock::Timeline;
use elsewhen_vdso::page::{Map, Snapshot};
use std::fmt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How a finding bears on the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It works.
    Works,
    /// It works, with a limit worth knowing.
    Limited,
    /// Not intercepted: the host's time is seen.
    NotIntercepted,
    /// It cannot work, and is refused.
    Refused,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it bears on the question.
    pub verdict: Verdict,
    /// What was looked at.
    pub subject: String,
    /// What was found, and why that is so.
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.verdict {
            Verdict::Works => "ok     ",
            Verdict::Limited => "limited",
            Verdict::NotIntercepted => "host   ",
            Verdict::Refused => "refused",
        };
        write!(f, "{sign}  {}: {}", self.subject, self.detail)
    }
}

fn finding(verdict: Verdict, subject: &str, detail: impl Into<String>) -> Finding {
    Finding { verdict, subject: subject.into(), detail: detail.into() }
}

/// Looks at this kernel and this user. `clocks` is a command that prints its realtime clock's seconds as read
/// by the vDSO and by a raw system call; it is run in a namespace of its own as the proof.
pub fn examine_host(clocks: &[&str]) -> Vec<Finding> {
    let mut findings = vec![finding(Verdict::Works, "kernel", probe::kernel_release())];
    findings.push(vdso());
    findings.push(programs());
    findings.push(code_writes());
    findings.push(privileges());
    findings.extend(yama());
    findings.extend(proof(clocks));
    findings.extend(not_intercepted());
    findings
}

/// The highest verdict: whether programs can be started at all.
pub fn is_refused(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.verdict == Verdict::Refused)
}

fn vdso() -> Finding {
    let host = match HostVdso::of_this_process() {
        Ok(host) => host,
        Err(error) => return finding(Verdict::Refused, "vdso", error.to_string()),
    };
    match host.patch() {
        Err(error) => finding(Verdict::Refused, "vdso", error.to_string()),
        Ok(patch) => {
            let missing: Vec<&str> =
                host.functions().into_iter().filter_map(|(name, size)| size.is_none().then_some(name)).collect();
            let missing =
                if missing.is_empty() { String::new() } else { format!("; it has no {}", missing.join(", ")) };
            let (added, room) = (patch.added_bytes(), host.room());
            finding(
                Verdict::Works,
                "vdso",
                format!("entries can be redirected ({added} of {room} unused bytes needed){missing}"),
            )
        }
    }
}

/// Which programs can be members, of those that this kernel runs.
#[cfg(target_arch = "aarch64")]
fn programs() -> Finding {
    finding(Verdict::Works, "programs", "64-bit (arm64) ones")
}

/// Which programs can be members, of those that this kernel runs.
#[cfg(target_arch = "x86_64")]
fn programs() -> Finding {
    let subject = "programs";
    finding(
        Verdict::Works,
        subject,
        match (probe::runs_32_bit_programs(), probe::runs_x32_programs()) {
            (true, true) => "64-bit (x86-64), 32-bit (i386) and x32 ones",
            (true, false) => "64-bit (x86-64) and 32-bit (i386) ones; this kernel runs no x32 ones",
            (false, true) => "64-bit (x86-64) and x32 ones; this kernel runs no 32-bit (i386) ones",
            (false, false) => "64-bit (x86-64) ones; this kernel runs no 32-bit (i386) and no x32 ones",
        },
    )
}

fn code_writes() -> Finding {
    match probe::can_write_code() {
        Ok(()) => finding(Verdict::Works, "memory", "read-only mappings can be written through /proc/PID/mem"),
        Err(error) => finding(
            Verdict::Refused,
            "memory",
            format!("read-only mappings cannot be written through /proc/PID/mem (proc_mem.force_override?): {error}"),
        ),
    }
}

fn privileges() -> Finding {
    if probe::has(Capability::SysAdmin) {
        return finding(Verdict::Works, "privileges", "CAP_SYS_ADMIN: set-user-ID programs keep their meaning");
    }
    finding(
        Verdict::Limited,
        "privileges",
        "no CAP_SYS_ADMIN: programs run with no_new_privs, so set-user-ID bits and file capabilities have no effect (sudo fails)",
    )
}

fn yama() -> Option<Finding> {
    let scope = probe::yama_scope()?;
    Some(match scope {
        0 => finding(Verdict::Works, "yama", "ptrace_scope 0"),
        _ if probe::has(Capability::SysPtrace) && scope < 3 => {
            finding(Verdict::Works, "yama", format!("ptrace_scope {scope}, and CAP_SYS_PTRACE is there"))
        }
        1 => finding(Verdict::Works, "yama", "ptrace_scope 1: members are descendants of the supervisor"),
        _ => finding(Verdict::Refused, "yama", format!("ptrace_scope {scope}: programs cannot be entered")),
    })
}

/// Runs a program in a namespace ten years ahead and compares.
fn proof(clocks: &[&str]) -> Vec<Finding> {
    let ahead = jiff::SignedDuration::from_hours(10 * 365 * 24);
    let run = || -> Result<(i64, i64)> {
        let namespace = Namespace::new(&Spec::new().offset(Family::Realtime, ahead))?;
        let mut command = namespace.command(clocks.first().copied().unwrap_or("false"));
        command.args(clocks.iter().skip(1));
        let output = command.output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut numbers = text.split_whitespace().filter_map(|word| word.parse::<i64>().ok());
        numbers.next().zip(numbers.next()).ok_or_else(|| {
            crate::Error::setup(format!("the program {:?} printed {text:?} ({})", clocks, output.status))
        })
    };
    let (by_vdso, by_call) = match run() {
        Ok(seen) => seen,
        Err(error) => return vec![finding(Verdict::Refused, "a program in a namespace", error.to_string())],
    };
    let host = clock::now(elsewhen_vdso::clock::ClockId::Realtime).0 / 1_000_000_000;
    let away = |seconds: i64| seconds - host > ahead.as_secs() / 2;
    vec![
        if away(by_vdso) {
            finding(Verdict::Works, "clock reads by the vdso", "a program started in a namespace reads its own time")
        } else {
            finding(
                Verdict::Refused,
                "clock reads by the vdso",
                "a program started in a namespace read the host's time",
            )
        },
        if away(by_call) {
            finding(
                Verdict::Works,
                "system calls",
                "clock reads, waits, deadlines and timers by system calls are in the namespace's time",
            )
        } else {
            finding(
                Verdict::Refused,
                "clock reads by raw system calls",
                "a program that makes them itself read the host's time",
            )
        },
    ]
}

/// The instruction by which programs read the processor's own counter.
const COUNTER: &str = if cfg!(target_arch = "x86_64") { "rdtsc" } else { "cntvct_el0" };

/// What no program has here, whatever it is.
fn not_intercepted() -> Vec<Finding> {
    let host = |subject: &str, detail: &str| finding(Verdict::NotIntercepted, subject, detail);
    vec![
        finding(
            Verdict::Limited,
            "not to be had inside",
            "io_uring (its timeouts cannot be translated) and clone3 fail with ENOSYS; setting the clock with EPERM, without --settable",
        ),
        host("/proc", "/proc/uptime, btime of /proc/stat and start times of processes"),
        host("stamps made by the kernel", "sockets, input events, dmesg, perf; file times without --files follow"),
        host(COUNTER, "the processor's counter is not virtualised"),
    ]
}

/// Looks at a program: how it would be entered and what of it would not be intercepted.
///
/// `program` is a path, or a name to be found in `PATH`.
pub fn examine_program(program: &str) -> Vec<Finding> {
    let Some(path) = find(program) else {
        return vec![finding(Verdict::Refused, program, "not found")];
    };
    let examined = Caller(Tid(std::process::id())).examine(AT_FDCWD, path.as_os_str().as_encoded_bytes(), false);
    let subject = path.display().to_string();
    let kind = format!("{} ({})", examined.kind, examined.path.display());
    let mut findings = vec![match &examined.entry {
        Entry::AtTlsSetup => {
            finding(Verdict::Works, &subject, format!("{kind}: entered when it sets up thread-local storage"))
        }
        Entry::Traced => finding(
            Verdict::Limited,
            &subject,
            format!("{kind}: entered in a short trace of its start, which fails under another tracer (strace, gdb)"),
        ),
        Entry::Kernel => finding(Verdict::Refused, &subject, "not a program that this kernel runs by itself"),
        Entry::Refused(reason) => finding(Verdict::Refused, &subject, format!("{kind}: {reason}")),
    }];
    if let Ok(metadata) = examined.path.metadata() {
        let mode = metadata.permissions().mode();
        if mode & 0o6000 != 0 && !probe::has(Capability::SysAdmin) {
            let owner = metadata.uid();
            findings.push(finding(
                Verdict::Limited,
                "set-user-ID",
                format!("runs without the rights of user {owner}: without CAP_SYS_ADMIN members have no_new_privs"),
            ));
        }
    }
    findings.extend(not_intercepted());
    findings
}

/// Looks at a running process: whether it is a member, and what its clocks read.
///
/// # Errors
/// Where the process does not exist, or its memory may not be read.
pub fn examine_process(pid: u32) -> Result<Vec<Finding>> {
    let (tid, subject) = (Tid(pid), format!("process {pid}"));
    let Some(page) = probe::page_of(tid)? else {
        let detail = "not in a namespace: it sees the host's time; see `elsewhen attach`";
        return Ok(vec![finding(Verdict::NotIntercepted, &subject, detail)]);
    };
    let Some(snapshot) = Snapshot::decode(&page) else {
        return Ok(vec![finding(Verdict::Refused, &subject, "in a namespace of another version of elsewhen")]);
    };
    let name = crate::attach::name_in(&snapshot);
    let name = if name.is_empty() { "without a name".to_owned() } else { format!("{name:?}") };
    let mut findings = vec![if probe::is_patched(tid)? {
        finding(Verdict::Works, &subject, format!("in the namespace {name}"))
    } else {
        finding(
            Verdict::NotIntercepted,
            &subject,
            format!("has the page of namespace {name}, but its vDSO is not redirected"),
        )
    }];
    if probe::page_of(Tid(std::process::id())).is_ok_and(|page| page.is_some()) {
        let detail = "not known: elsewhen itself runs in a namespace here, and cannot read the host's clocks";
        findings.push(finding(Verdict::Limited, "distance from the host", detail));
        return Ok(findings);
    }
    let host = clock::sample();
    for timeline in [Timeline::Realtime, Timeline::Monotonic, Timeline::Boottime] {
        let (map, host) = (snapshot.maps[timeline as usize], host[timeline as usize]);
        let member = map.to_pivot().to_member(host);
        let ahead = crate::spec::format_duration(member.0.saturating_sub(host.0));
        let pace = match map {
            Map::Offset(_) => String::new(),
            Map::Pivot(pivot) if pivot.at(host).mult == 0 => ", frozen".into(),
            Map::Pivot(pivot) => format!(", rate {:.6}", pivot.at(host).mult as f64 / (1u64 << 54) as f64),
        };
        findings.push(finding(Verdict::Works, timeline.family().name(), format!("{ahead} from the host{pace}")));
    }
    findings.extend(not_intercepted());
    Ok(findings)
}

/// A program as `execvp(3)` finds it.
fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Path::new(program).exists().then(|| PathBuf::from(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| {
        candidate.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    })
}

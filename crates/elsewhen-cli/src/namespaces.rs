//! Named namespaces: making, changing, removing and waiting for them.

use crate::args::{Create, Remove, Set, Target, Wait};
use crate::{NOTHING, fail, request};
use elsewhen::spec::parse_date;
use elsewhen::{Error, Family, Namespace};
use elsewhen_oci::containers;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How often a clock is looked at that may be changed meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// `elsewhen create`
pub(crate) fn create(create: &Create) -> ExitCode {
    match request::of_create(create) {
        Ok(spec) => done(crate::noted(&create.clocks, Namespace::new(&spec))),
        Err(error) => fail(&error.to_string()),
    }
}

/// `elsewhen rm`
pub(crate) fn remove(remove: &Remove) -> ExitCode {
    let mut status = ExitCode::SUCCESS;
    for name in &remove.names {
        if let Err(error) = Namespace::remove(name, remove.force) {
            status = fail(&error.to_string());
        }
    }
    status
}

/// `elsewhen set`
pub(crate) fn set(set: &Set) -> ExitCode {
    match request::of_set(set) {
        Ok(spec) => {
            let outcome = open(&set.target).and_then(|namespace| namespace.set(&spec));
            done(crate::noted(&set.clocks, outcome))
        }
        Err(error) => fail(&error.to_string()),
    }
}

/// The namespace of a name, of a container, or of a process that is in one with a name.
///
/// # Errors
/// Where there is none.
pub(crate) fn open(Target { target, container }: &Target) -> elsewhen::Result<Namespace> {
    if *container {
        return Namespace::open(&containers::get(target)?.namespace);
    }
    let Ok(pid) = target.parse() else { return open_named(target) };
    match elsewhen::name_of(pid)? {
        Some(name) if !name.is_empty() => Namespace::open(&name),
        Some(_) => Err(Error::other(format!(
            "process {pid} is in a namespace without a name, which only its maker can change: start it with --name"
        ))),
        None => Err(Error::other(format!("process {pid} is in no namespace: see `elsewhen attach`"))),
    }
}

/// The namespace of a name, or of a container.
///
/// # Errors
/// Where there is none.
pub(crate) fn open_named(name: &str) -> elsewhen::Result<Namespace> {
    // Ids and names of containers can be none that a namespace could have.
    Namespace::open(name).or_else(|error| match containers::find(name)? {
        Some(container) => Namespace::open(&container.namespace),
        None => Err(error),
    })
}

/// `elsewhen wait`
pub(crate) fn wait(wait: &Wait) -> ExitCode {
    let until = match parse_date(&wait.until) {
        Ok(date) => date.as_nanosecond(),
        Err(error) => return fail(&format!("--until: {error}")),
    };
    let timeout = match wait.timeout.as_deref().map(|text| request::positive("--timeout", text)).transpose() {
        Ok(timeout) => timeout.map(|timeout| Instant::now() + timeout),
        Err(error) => return fail(&error.to_string()),
    };
    let namespace = match open(&wait.target) {
        Ok(namespace) => namespace,
        Err(error) => return fail(&error.to_string()),
    };
    let mut told = false;
    loop {
        let clock = namespace.status().clocks[0];
        let left = until - i128::from(clock.member_ns);
        if left <= 0 {
            return ExitCode::SUCCESS;
        }
        if clock.rate == 0.0 && clock.ahead.is_none() && !told {
            eprintln!("elsewhen: the clock stands still; waiting for somebody to move it or let it go on");
            told = true;
        }
        if namespace.is_removed() {
            return fail("the namespace has been removed, and its clock can no longer be followed");
        }
        // Never longer than until the date, by the present rate.
        let exact = if clock.rate > 0.0 {
            Duration::from_secs_f64((left as f64 / 1e9 / clock.rate).min(1e6))
        } else {
            LOOK_EVERY
        };
        let mut pause = exact.min(LOOK_EVERY).max(Duration::from_micros(50));
        if let Some(timeout) = timeout {
            let left = timeout.saturating_duration_since(Instant::now());
            if left.is_zero() {
                eprintln!("elsewhen: {} has not been reached", wait.until);
                return ExitCode::from(NOTHING);
            }
            pause = pause.min(left);
        }
        std::thread::sleep(pause);
    }
}

/// How far realtime is ahead, for people.
pub(crate) fn offset(status: &elsewhen::Status) -> i64 {
    status.clocks.iter().find(|clock| clock.family == Family::Realtime).map_or(0, elsewhen::ClockStatus::offset_ns)
}

fn done<T>(result: elsewhen::Result<T>) -> ExitCode {
    match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

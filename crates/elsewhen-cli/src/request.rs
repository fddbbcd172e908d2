//! From the texts of the arguments to a request to the library. Nothing here acts.

use crate::args::{Faketime, Files, Run};
use elsewhen::spec::{FakeDate, GrammarError, parse_date, parse_duration, parse_faketime, split_clock};
use elsewhen::{Clocks, Family, Rate, SignedDuration, Spec};
use std::fmt;

/// Why the arguments make no request: one line.
#[derive(Debug)]
pub(crate) enum Refusal {
    Grammar(&'static str, GrammarError),
    Conflict(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grammar("", error) => error.fmt(f),
            Self::Grammar(flag, error) => write!(f, "{flag}: {error}"),
            Self::Conflict(message) => f.write_str(message),
        }
    }
}

/// What `elsewhen run` asks.
pub(crate) fn of_run(run: &Run) -> Result<Spec, Refusal> {
    let mut spec = Spec::new();
    let (mut positioned, mut paced) = (Clocks::NONE, Clocks::NONE);
    if let Some(at) = &run.at {
        spec = spec.at(parse_date(at).map_err(in_flag("--at"))?);
        positioned = Family::Realtime.into();
    }
    for text in &run.offset {
        let (clocks, duration) = split_clock(text).map_err(in_flag("--offset"))?;
        let clocks = clocks.unwrap_or(Family::Realtime.into());
        claim(&mut positioned, clocks, "--at and --offset")?;
        let offset = parse_duration(duration).map_err(in_flag("--offset"))?;
        spec = spec.offset(clocks, SignedDuration::from_nanos(offset));
    }
    for text in &run.rate {
        let (clocks, rate) = split_clock(text).map_err(in_flag("--rate"))?;
        let clocks = clocks.unwrap_or(Clocks::ALL);
        claim(&mut paced, clocks, "--rate and --freeze")?;
        spec = spec.rate_of(clocks, Rate::parse(rate).map_err(in_flag("--rate"))?);
    }
    for text in &run.freeze {
        let clocks = Clocks::parse(text).map_err(in_flag("--freeze"))?;
        claim(&mut paced, clocks, "--rate and --freeze")?;
        spec = spec.freeze(clocks);
    }
    if run.adjustable {
        spec = spec.adjustable();
    }
    if run.files == Files::Follow {
        spec = spec.files_follow();
    }
    if run.settable {
        spec = spec.settable();
    }
    if let Some(name) = &run.name {
        spec = spec.with_name(name).map_err(in_flag("--name"))?;
    }
    Ok(spec)
}

/// What `elsewhen faketime` asks.
pub(crate) fn of_faketime(faketime: &Faketime) -> Result<Spec, Refusal> {
    let parsed = parse_faketime(&faketime.spec, faketime.advanced).map_err(in_flag(""))?;
    let spec = match parsed.date {
        FakeDate::Now => Spec::new(),
        FakeDate::Offset { ns } => Spec::new().offset(Family::Realtime, SignedDuration::from_nanos(ns)),
        FakeDate::StartAt(date) => Spec::new().at(date),
        FakeDate::Frozen(date) => Spec::new().at(date).freeze(Family::Realtime),
    };
    Ok(match (parsed.rate, parsed.date) {
        (Some(rate), FakeDate::Frozen(_)) => {
            return Err(Refusal::Conflict(format!(
                "a date that stands still cannot run at rate {rate}; put '@' before the date"
            )));
        }
        (Some(rate), _) => spec.rate(rate),
        (None, _) => spec,
    })
}

fn in_flag(flag: &'static str) -> impl Fn(GrammarError) -> Refusal {
    move |error| Refusal::Grammar(flag, error)
}

/// Notes that a clock is spoken for, and refuses to have it spoken for twice.
fn claim(taken: &mut Clocks, clocks: Clocks, flags: &str) -> Result<(), Refusal> {
    for family in Family::ALL {
        if taken.contains(family) && clocks.contains(family) {
            let name = family.name();
            return Err(Refusal::Conflict(format!("{flags} set {name} twice: name each clock once")));
        }
    }
    *taken = taken.union(clocks);
    Ok(())
}

//! From the texts of the arguments to a request to the library. Nothing here acts.

use crate::args::{self, Abilities, Attach, Create, Faketime, Files, Run, Set};
use elsewhen::spec::{Asked, FakeDate, GrammarError, Texts, claim, parse_duration, parse_faketime, split_clock};
use elsewhen::{Clocks, Family, SignedDuration, Spec};
use std::fmt;
use std::time::Duration;

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
    let spec = with_abilities(of_clocks(&run.clocks)?.spec, &run.abilities);
    match &run.name {
        Some(name) => spec.with_name(name).map_err(in_flag("--name")),
        None => Ok(spec),
    }
}

/// What `elsewhen create` asks.
pub(crate) fn of_create(create: &Create) -> Result<Spec, Refusal> {
    let spec = with_abilities(of_clocks(&create.clocks)?.spec, &create.abilities);
    Ok(spec.with_name(&create.name).map_err(in_flag(""))?.persistent())
}

/// What `elsewhen attach` asks of a new namespace.
pub(crate) fn of_attach(attach: &Attach) -> Result<Spec, Refusal> {
    let spec = with_abilities(of_clocks(&attach.clocks)?.spec, &attach.abilities);
    if spec.is_empty() {
        return Err(Refusal::Conflict("nothing is asked for: give --to, --at, --offset, --rate or --freeze".into()));
    }
    let name = attach.name.clone().unwrap_or_else(|| format!("attached-{}", attach.process.target));
    spec.with_name(&name).map_err(in_flag("--name"))
}

/// What `elsewhen set` asks.
pub(crate) fn of_set(set: &Set) -> Result<Spec, Refusal> {
    let Asked { mut spec, mut positioned, mut paced } = of_clocks(&set.clocks)?;
    for text in &set.by {
        let (clocks, duration) = split_clock(text).map_err(in_flag("--by"))?;
        let clocks = clocks.unwrap_or(Family::Realtime.into());
        claim(&mut positioned, clocks, "--at, --offset and --by").map_err(in_flag(""))?;
        spec = spec.by(clocks, SignedDuration::from_nanos(parse_duration(duration).map_err(in_flag("--by"))?));
    }
    for text in &set.thaw {
        let clocks = Clocks::parse(text).map_err(in_flag("--thaw"))?;
        claim(&mut paced, clocks, "--rate, --freeze and --thaw").map_err(in_flag(""))?;
        spec = spec.thaw(clocks);
    }
    if let Some(text) = &set.smooth {
        spec = spec.smooth(positive("--smooth", text)?);
    }
    if spec.is_empty() {
        return Err(Refusal::Conflict(
            "nothing is asked for: give --at, --offset, --by, --rate, --freeze or --thaw".into(),
        ));
    }
    Ok(spec)
}

/// A duration that is not negative.
pub(crate) fn positive(flag: &'static str, text: &str) -> Result<Duration, Refusal> {
    let ns = parse_duration(text).map_err(in_flag(flag))?;
    u64::try_from(ns)
        .map(Duration::from_nanos)
        .map_err(|_| Refusal::Conflict(format!("{flag}: {text:?} is negative, and time goes on")))
}

/// What is asked of clocks.
fn of_clocks(asked: &args::Clocks) -> Result<Asked, Refusal> {
    fn texts(values: &[String]) -> Vec<&str> {
        values.iter().map(String::as_str).collect()
    }
    let texts = Texts {
        at: asked.at.as_deref(),
        offset: texts(&asked.offset),
        rate: texts(&asked.rate),
        freeze: texts(&asked.freeze),
    };
    texts.read(|key| format!("--{key}")).map_err(in_flag(""))
}

/// Whether BOOTTIME is asked for by name.
pub(crate) fn names_boottime(asked: &args::Clocks) -> bool {
    let named = asked.offset.iter().chain(&asked.rate).filter_map(|text| split_clock(text).ok()?.0);
    let mut clocks = named.chain(asked.freeze.iter().filter_map(|text| Clocks::parse(text).ok()));
    clocks.any(|clocks| clocks.contains(Family::Boottime))
}

fn with_abilities(mut spec: Spec, asked: &Abilities) -> Spec {
    if asked.adjustable {
        spec = spec.adjustable();
    }
    if asked.files == Files::Follow {
        spec = spec.files_follow();
    }
    if asked.settable {
        spec = spec.settable();
    }
    spec
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

//! From texts to a [`Spec`]: the values of flags, or of annotations.

use super::{Clocks, Family, GrammarError, Rate, Spec, parse_date, parse_duration, split_clock};
use jiff::SignedDuration;

/// What is asked of clocks, as texts.
#[derive(Clone, Debug, Default)]
pub struct Texts<'a> {
    /// A date ([`parse_date`]).
    pub at: Option<&'a str>,
    /// Distances from the host's clocks, `[CLOCK=]DURATION`; of REALTIME where no clock is named.
    pub offset: Vec<&'a str>,
    /// Paces, `[CLOCK=]RATE`; of every clock where none is named.
    pub rate: Vec<&'a str>,
    /// Clocks that stand still ([`Clocks::parse`]).
    pub freeze: Vec<&'a str>,
}

/// What [`Texts`] ask for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The request.
    pub spec: Spec,
    /// The clocks that are put somewhere.
    pub positioned: Clocks,
    /// The clocks that are given a pace.
    pub paced: Clocks,
}

impl Texts<'_> {
    /// Reads the texts. `place` says where the text of `at`, `offset`, `rate` or `freeze` stands, for messages: `--at`.
    ///
    /// # Errors
    /// Where one cannot be read, or two are about the same clock.
    ///
    /// # Examples
    ///
    /// ```
    /// use elsewhen::spec::Texts;
    ///
    /// let texts = Texts { offset: vec!["1 fortnight"], ..Texts::default() };
    /// let error = texts.read(|key| format!("org.elsewhen.{key}")).unwrap_err();
    /// assert!(error.to_string().starts_with("org.elsewhen.offset: "));
    /// ```
    pub fn read(&self, place: impl Fn(&str) -> String) -> Result<Asked, GrammarError> {
        let at = |key: &'static str| {
            let place = place(key);
            move |error: GrammarError| GrammarError::new(format!("{place}: {error}"))
        };
        let both = |one: &str, other: &str| format!("{} and {}", place(one), place(other));
        let mut spec = Spec::new();
        let (mut positioned, mut paced) = (Clocks::NONE, Clocks::NONE);
        if let Some(text) = self.at {
            spec = spec.at(parse_date(text).map_err(at("at"))?);
            positioned = Family::Realtime.into();
        }
        for text in &self.offset {
            let (clocks, duration) = split_clock(text).map_err(at("offset"))?;
            let clocks = clocks.unwrap_or(Family::Realtime.into());
            claim(&mut positioned, clocks, &both("at", "offset"))?;
            let offset = parse_duration(duration).map_err(at("offset"))?;
            spec = spec.offset(clocks, SignedDuration::from_nanos(offset));
        }
        for text in &self.rate {
            let (clocks, rate) = split_clock(text).map_err(at("rate"))?;
            let clocks = clocks.unwrap_or(Clocks::ALL);
            claim(&mut paced, clocks, &both("rate", "freeze"))?;
            spec = spec.rate_of(clocks, Rate::parse(rate).map_err(at("rate"))?);
        }
        for text in &self.freeze {
            let clocks = Clocks::parse(text).map_err(at("freeze"))?;
            claim(&mut paced, clocks, &both("rate", "freeze"))?;
            spec = spec.freeze(clocks);
        }
        Ok(Asked { spec, positioned, paced })
    }
}

/// Notes that clocks are spoken for. `places` says where they can be, for the message: `--at and --offset`.
///
/// # Errors
/// Where one is spoken for already.
pub fn claim(taken: &mut Clocks, clocks: Clocks, places: &str) -> Result<(), GrammarError> {
    for family in Family::ALL {
        if taken.contains(family) && clocks.contains(family) {
            let name = family.name();
            return Err(GrammarError::new(format!("{places} set {name} twice: name each clock once")));
        }
    }
    *taken = taken.union(clocks);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &Texts<'_>) -> Result<Spec, String> {
        texts.read(|key| format!("<{key}>")).map(|asked| asked.spec).map_err(|error| error.to_string())
    }

    #[test]
    fn texts_are_read_as_one_request() {
        let texts = Texts { offset: vec!["1h", "boottime=2h"], rate: vec!["2"], ..Texts::default() };
        let asked = Spec::new()
            .offset(Family::Realtime, SignedDuration::from_hours(1))
            .offset(Family::Boottime, SignedDuration::from_hours(2));
        let two = Rate::parse("2").map_err(|error| error.to_string());
        assert_eq!(read(&texts), two.map(|two| asked.rate(two)));
    }

    #[test]
    fn a_bad_text_is_named_by_its_place() {
        for (texts, place) in [
            (Texts { at: Some("someday"), ..Texts::default() }, "<at>: "),
            (Texts { offset: vec!["1 fortnight"], ..Texts::default() }, "<offset>: "),
            (Texts { rate: vec!["0"], ..Texts::default() }, "<rate>: "),
            (Texts { freeze: vec!["sundial"], ..Texts::default() }, "<freeze>: "),
        ] {
            let message = read(&texts).unwrap_err();
            assert!(message.starts_with(place) && !message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn a_clock_is_spoken_for_once() {
        let texts = Texts { at: Some("2030-01-01T00:00:00Z"), offset: vec!["1h"], ..Texts::default() };
        assert_eq!(read(&texts).unwrap_err(), "<at> and <offset> set realtime twice: name each clock once");
        let texts = Texts { rate: vec!["2"], freeze: vec!["monotonic"], ..Texts::default() };
        assert_eq!(read(&texts).unwrap_err(), "<rate> and <freeze> set monotonic twice: name each clock once");
    }
}

//! The grammar of what people type: durations, dates, rates, clocks, and the specifications of `faketime`.
//!
//! Each parser takes one text and gives a typed value or a [`GrammarError`] of one line. Parsing has no effect on
//! anything. It reads the local time zone where a date names none; only [`parse_faketime`] runs a program,
//! GNU `date`, for dates in words, as `faketime` itself does.
//!
//! Users: the command line, and everything that takes a setting as text.

mod clock;
mod date;
mod duration;
mod faketime;
mod grammar_error;
mod rate;
mod request;
mod texts;

pub use clock::{Clocks, Family, split_clock};
pub use date::{parse_date, parse_date_in};
pub use duration::{format_duration, parse_duration};
pub use faketime::{FakeDate, FaketimeSpec, parse_faketime};
pub use grammar_error::GrammarError;
pub use rate::Rate;
pub use texts::{Asked, Texts, claim};

pub use request::Spec;
pub(crate) use request::{Pace, Position};

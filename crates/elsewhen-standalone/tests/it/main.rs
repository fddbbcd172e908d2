//! The images in this process, against the host's clocks.

#![expect(unsafe_code, reason = "calls into images, and stops threads by signals")]

mod faults;
mod host;
mod reads;
mod switching;
mod unsafe_switching;

//! The images in this process, against the host's clocks.

#![expect(unsafe_code, reason = "calls into images, and stops threads by signals")]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, and says where")]

mod faults;
mod host;
mod reads;
mod switching;
mod unsafe_switching;

//! The kernel's own time namespaces (`time_namespaces(7)`), on request: offsets of MONOTONIC and BOOTTIME that the runtime makes
//! and `/proc/uptime` follows, beside a namespace of ours for everything else.

use elsewhen::spec::{GrammarError, format_duration, parse_duration, split_clock};
use elsewhen::{Clocks, Error, Family, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};

const SECOND_NS: i64 = 1_000_000_000;

/// Offsets of a time namespace of the kernel's, in nanoseconds; 0 for a clock that is not moved.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct KernelOffsets {
    /// Of MONOTONIC.
    pub monotonic_ns: i64,
    /// Of BOOTTIME.
    pub boottime_ns: i64,
}

impl KernelOffsets {
    /// As people read it.
    pub fn shown(&self) -> String {
        let [monotonic, boottime] = [self.monotonic_ns, self.boottime_ns].map(format_duration);
        format!("monotonic {monotonic}, boottime {boottime}")
    }

    /// Takes what the kernel can do out of texts that have been read before, and returns it with the rest.
    ///
    /// # Errors
    /// As those of reading them.
    pub(crate) fn split(texts: &[&str]) -> std::result::Result<(Self, Vec<String>), GrammarError> {
        let (mut offsets, mut rest) = (Self::default(), Vec::new());
        for text in texts {
            let (clocks, duration) = split_clock(text)?;
            let clocks = clocks.unwrap_or_else(|| Clocks::from(Family::Realtime));
            let ns = parse_duration(duration)?;
            if clocks.contains(Family::Monotonic) {
                offsets.monotonic_ns = ns;
            }
            if clocks.contains(Family::Boottime) {
                offsets.boottime_ns = ns;
            }
            if clocks.contains(Family::Realtime) {
                rest.push(format!("realtime={duration}"));
            }
        }
        Ok((offsets, rest))
    }

    /// Has the runtime make the namespace, by the container's configuration.
    pub(crate) fn put_into(&self, config: &mut Value) {
        let linux = &mut config["linux"];
        if !linux["namespaces"].is_array() {
            linux["namespaces"] = json!([]);
        }
        if let Some(namespaces) = linux["namespaces"].as_array_mut() {
            namespaces.retain(|namespace| namespace["type"] != "time");
            namespaces.push(json!({ "type": "time" }));
        }
        let offset = |ns: i64| json!({ "secs": ns.div_euclid(SECOND_NS), "nanosecs": ns.rem_euclid(SECOND_NS) });
        linux["timeOffsets"] = json!({ "monotonic": offset(self.monotonic_ns), "boottime": offset(self.boottime_ns) });
    }
}

/// Refuses a runtime that does not make such namespaces.
///
/// # Errors
/// Where its `features` do not say that it does.
pub(crate) fn check(runtime: &Path) -> Result<()> {
    let features = Command::new(runtime).arg("features").stdin(Stdio::null()).stderr(Stdio::null()).output();
    let features =
        features.ok().and_then(|output| serde_json::from_slice::<Value>(&output.stdout).ok()).unwrap_or_default();
    if makes_time_namespaces(&features) {
        return Ok(());
    }
    Err(Error::other(format!(
        "{} makes no time namespaces (runc 1.2 and crun 1.8.6 do); without org.elsewhen.timens these offsets need none",
        runtime.display()
    )))
}

fn makes_time_namespaces(features: &Value) -> bool {
    let listed =
        features["linux"]["namespaces"].as_array().is_some_and(|names| names.iter().any(|name| name == "time"));
    // Every crun that has the command makes them, without saying so.
    listed || features["annotations"]["run.oci.crun.version"].is_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_given_what_it_can_do() {
        let (offsets, rest) = KernelOffsets::split(&["1h", "monotonic=2h", "boottime=-1.5s"]).unwrap();
        assert_eq!((offsets.monotonic_ns, offsets.boottime_ns), (7200 * SECOND_NS, -1_500_000_000));
        assert_eq!(rest, ["realtime=1h"]);
        let (offsets, rest) = KernelOffsets::split(&["all=1s"]).unwrap();
        assert_eq!(
            (offsets.monotonic_ns, offsets.boottime_ns, rest),
            (SECOND_NS, SECOND_NS, vec!["realtime=1s".to_owned()])
        );
        let mut config = json!({ "linux": { "namespaces": [{ "type": "pid" }, { "type": "time", "path": "/x" }] } });
        KernelOffsets { monotonic_ns: 0, boottime_ns: -1_500_000_000 }.put_into(&mut config);
        assert_eq!(config["linux"]["namespaces"], json!([{ "type": "pid" }, { "type": "time" }]));
        assert_eq!(config["linux"]["timeOffsets"]["boottime"], json!({ "secs": -2, "nanosecs": 500_000_000 }));
    }

    #[test]
    fn runtimes_are_asked() {
        assert!(makes_time_namespaces(&json!({ "linux": { "namespaces": ["pid", "time"] } })));
        assert!(makes_time_namespaces(&json!({ "annotations": { "run.oci.crun.version": "1.21" } })));
        assert!(!makes_time_namespaces(&json!({ "linux": { "namespaces": ["pid"] } })));
        assert!(!makes_time_namespaces(&Value::Null));
    }
}

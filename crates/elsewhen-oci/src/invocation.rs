//! What an engine asks of the runtime: `runc [GLOBAL OPTIONS] COMMAND [OPTIONS] CONTAINER`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Options before the command that take the next argument as their value, of runc, crun and youki.
const GLOBAL: [&str; 8] =
    ["--log", "--log-format", "--log-level", "--root", "--criu", "--rootless", "--cgroup-manager", "--config"];
/// The same of one letter.
const GLOBAL_SHORT: [&str; 2] = ["-r", "-l"];
/// Options of `create`, `run`, `restore` and `exec` that take the next argument.
const OF_COMMANDS: [&str; 23] = [
    "--bundle",
    "--console-socket",
    "--pid-file",
    "--preserve-fds",
    "--config",
    "--process",
    "--cwd",
    "--env",
    "--user",
    "--additional-gids",
    "--apparmor",
    "--process-label",
    "--cap",
    "--cgroup",
    "--image-path",
    "--work-path",
    "--parent-path",
    "--manage-cgroups-mode",
    "--lsm-profile",
    "--lsm-mount-context",
    "--empty-ns",
    "--status-fd",
    "--page-server",
];
/// The same of one letter.
const OF_COMMANDS_SHORT: [&str; 7] = ["-b", "-f", "-p", "-e", "-u", "-g", "-c"];

/// A command for the runtime.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Invocation {
    /// Its name; empty where there is none.
    pub(crate) command: String,
    /// The id of the container.
    pub(crate) id: Option<String>,
    /// The folder of the bundle.
    pub(crate) bundle: Option<PathBuf>,
    /// The configuration, where that is not in the bundle (crun).
    pub(crate) config: Option<PathBuf>,
    /// Where the runtime writes its log.
    pub(crate) log: Option<PathBuf>,
    /// Whether that is JSON.
    pub(crate) log_is_json: bool,
}

impl Invocation {
    /// Reads arguments, without the name of the program.
    pub(crate) fn of(arguments: &[OsString]) -> Self {
        let mut found = Self::default();
        let mut rest = arguments.iter().map(OsString::as_os_str);
        while let Some(argument) = rest.next() {
            let Some((option, value)) = option(argument, &mut rest, &GLOBAL, &GLOBAL_SHORT) else {
                found.command = argument.to_string_lossy().into_owned();
                break;
            };
            match (option, value) {
                ("--log" | "-l", Some(file)) => found.log = Some(file.into()),
                ("--log-format", Some(format)) => found.log_is_json = format == "json",
                _ => {}
            }
        }
        let takes_values = found.command != "delete";
        let (long, short): (&[&str], &[&str]) =
            if takes_values { (&OF_COMMANDS, &OF_COMMANDS_SHORT) } else { (&[], &[]) };
        let mut only_ids = false;
        while let Some(argument) = rest.next() {
            if argument == "--" && !only_ids {
                only_ids = true;
                continue;
            }
            match option(argument, &mut rest, long, short).filter(|_| !only_ids) {
                Some(("--bundle" | "-b", Some(bundle))) => found.bundle = Some(bundle.into()),
                Some(("--config" | "-f", Some(config))) => found.config = Some(config.into()),
                Some(_) => {}
                // What follows is a command for the container.
                None => {
                    found.id = argument.to_str().map(str::to_owned);
                    break;
                }
            }
        }
        found
    }
}

/// An option and its value, `None` for what is none.
fn option<'a>(
    argument: &'a OsStr,
    rest: &mut impl Iterator<Item = &'a OsStr>,
    long: &[&str],
    short: &[&str],
) -> Option<(&'a str, Option<&'a OsStr>)> {
    let bytes = argument.as_bytes();
    if !bytes.starts_with(b"-") || bytes.len() == 1 {
        return None;
    }
    let at = bytes.iter().position(|byte| *byte == b'=');
    let name = std::str::from_utf8(&bytes[..at.unwrap_or(bytes.len())]).unwrap_or("-");
    let value = match at {
        Some(at) => Some(OsStr::from_bytes(&bytes[at + 1..])),
        None if long.contains(&name) || short.contains(&name) => rest.next(),
        None => None,
    };
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Invocation {
        Invocation::of(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn what_engines_call_is_understood() {
        let podman = of("--root /run/runc --log-format=json --log /l create --bundle /b --pid-file /p abc");
        assert_eq!((podman.command.as_str(), podman.id.as_deref()), ("create", Some("abc")));
        assert_eq!((podman.bundle, podman.log, podman.log_is_json), (Some("/b".into()), Some("/l".into()), true));
        let shim = of(
            "--root /r --log /l --log-format json exec --process /p.json --console-socket /c --detach --pid-file /p abc",
        );
        assert_eq!((shim.command.as_str(), shim.id.as_deref()), ("exec", Some("abc")));
        let conmon = of("--systemd-cgroup exec --pid-file /p --process /q -d abc");
        assert_eq!((conmon.command.as_str(), conmon.id.as_deref()), ("exec", Some("abc")));
        let crun = of("--cgroup-manager cgroupfs run -f /c.json -b=/b abc");
        assert_eq!(
            (crun.id.as_deref(), crun.bundle, crun.config),
            (Some("abc"), Some("/b".into()), Some("/c.json".into()))
        );
        let people = of("run abc");
        assert_eq!((people.id.as_deref(), people.bundle), (Some("abc"), None));
        let by_hand = of("exec -t --user 1000:1000 abc sh -c -b");
        assert_eq!((by_hand.id.as_deref(), by_hand.bundle), (Some("abc"), None));
        for line in ["delete --force -- abc", "delete -f abc", "delete abc"] {
            assert_eq!(of(line).id.as_deref(), Some("abc"), "{line}");
        }
        assert_eq!(of("features"), Invocation { command: "features".into(), ..Invocation::default() });
        assert_eq!(of("--version").command, "");
    }
}

//! What an engine asks of the runtime: `runc [GLOBAL OPTIONS] COMMAND [OPTIONS] CONTAINER`.
//!
//! Runtimes read options each in their way, and this has to read them in any: runc as Go's `flag` does (one dash or two, no
//! clusters), crun as `getopt_long(3)` (beginnings of names, clusters, values that follow their letter), youki as clap.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Options of runc, crun and youki in some place of the command line.
struct Options {
    /// Those with a value.
    valued: &'static [&'static str],
    /// Those without.
    flags: &'static [&'static str],
    /// Letters for those with a value.
    letters: &'static [(u8, &'static str)],
}

/// Before the command.
const GLOBAL: Options = Options {
    valued: &["log", "log-format", "log-level", "root", "criu", "rootless", "cgroup-manager", "config"],
    flags: &["debug", "systemd-cgroup", "help", "version"],
    letters: &[(b'r', "root"), (b'l', "log")],
};

/// Of `create`, `run`, `restore` and `exec`.
const OF_COMMANDS: Options = Options {
    valued: &[
        "bundle",
        "console-socket",
        "pid-file",
        "pidfd-socket",
        "preserve-fds",
        "config",
        "process",
        "cwd",
        "env",
        "user",
        "additional-gids",
        "apparmor",
        "process-label",
        "cap",
        "cgroup",
        "image-path",
        "work-path",
        "parent-path",
        "manage-cgroups-mode",
        "lsm-profile",
        "lsm-mount-context",
        "empty-ns",
        "status-fd",
        "page-server",
    ],
    flags: &[
        "auto-dedup",
        "detach",
        "ext-unix-sk",
        "file-locks",
        "help",
        "ignore-paused",
        "keep",
        "lazy-pages",
        "no-mount-fallback",
        "no-new-keyring",
        "no-new-privs",
        "no-pivot",
        "no-subreaper",
        "pre-dump",
        "shell-job",
        "tcp-close",
        "tcp-established",
        "tty",
    ],
    letters: &[
        (b'b', "bundle"),
        (b'f', "config"),
        (b'p', "process"),
        (b'e', "env"),
        (b'u', "user"),
        (b'g', "additional-gids"),
        (b'c', "cap"),
    ],
};

/// Of commands whose options have no values.
const NONE: Options = Options { valued: &[], flags: &["force", "regex", "help"], letters: &[] };

/// A command for the runtime.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Invocation {
    /// Its name; empty where there is none.
    pub(crate) command: String,
    /// The id of the container.
    pub(crate) id: Option<String>,
    /// The folder that the runtime keeps its containers in, where that is not its default.
    pub(crate) root: Option<PathBuf>,
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
            let Some(option) = GLOBAL.read(argument, &mut rest) else {
                found.command = argument.to_string_lossy().into_owned();
                break;
            };
            match option {
                Some(("log", file)) => found.log = Some(file.into()),
                Some(("log-format", format)) => found.log_is_json = format == "json",
                Some(("root", folder)) => found.root = Some(folder.into()),
                _ => {}
            }
        }
        let options = if found.command == "delete" { NONE } else { OF_COMMANDS };
        while let Some(argument) = rest.next() {
            let id = match options.read(argument, &mut rest) {
                Some(Some(("bundle", bundle))) => {
                    found.bundle = Some(bundle.into());
                    continue;
                }
                Some(Some(("config", config))) => {
                    found.config = Some(config.into());
                    continue;
                }
                Some(_) if argument != "--" => continue,
                Some(_) => rest.next(),
                None => Some(argument),
            };
            found.id = id.and_then(OsStr::to_str).map(str::to_owned);
            // What follows is a command for the container. Elsewhere the id is last, whatever options there will be.
            if found.command == "exec" {
                break;
            }
        }
        found
    }
}

impl Options {
    /// What an argument is: `None` for no option, `Some(None)` for one without a value.
    fn read<'a>(
        &self,
        argument: &'a OsStr,
        rest: &mut impl Iterator<Item = &'a OsStr>,
    ) -> Option<Option<(&'static str, &'a OsStr)>> {
        let bytes = argument.as_bytes();
        let named = bytes.strip_prefix(b"-").filter(|named| !named.is_empty())?;
        let (named, is_long) = named.strip_prefix(b"-").map_or((named, false), |named| (named, true));
        let at = named.iter().position(|byte| *byte == b'=');
        let (name, value) = (&named[..at.unwrap_or(named.len())], at.map(|at| OsStr::from_bytes(&named[at + 1..])));
        if let Some(option) = self.valued(name, is_long) {
            return Some(value.or_else(|| rest.next()).map(|value| (option, value)));
        }
        if is_long || self.flags.iter().any(|flag| flag.as_bytes() == name) {
            return Some(None);
        }
        // A cluster of letters, of which the last can have a value, in the same argument or the next.
        for (at, letter) in named.iter().enumerate() {
            if let Some((_, option)) = self.letters.iter().find(|(known, _)| known == letter) {
                let attached = named[at + 1..].strip_prefix(b"=").unwrap_or(&named[at + 1..]);
                let value = if attached.is_empty() { rest.next() } else { Some(OsStr::from_bytes(attached)) };
                return Some(value.map(|value| (*option, value)));
            }
        }
        Some(None)
    }

    /// The option with a value that is meant by a name, a letter, or what only it begins with.
    fn valued(&self, name: &[u8], can_be_begun: bool) -> Option<&'static str> {
        let letter = || self.letters.iter().find(|(letter, _)| name == [*letter]).map(|(_, option)| *option);
        let whole = self.valued.iter().find(|option| option.as_bytes() == name).copied().or_else(letter);
        let begun = || {
            let both = self.valued.iter().chain(self.flags);
            let mut begun = both.copied().filter(|option| option.as_bytes().starts_with(name));
            let only = begun.next().filter(|_| begun.next().is_none() && !name.is_empty())?;
            self.valued.contains(&only).then_some(only)
        };
        whole.or_else(|| if can_be_begun { begun() } else { None })
    }
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
        for (line, bundle) in [
            ("-root /r -log-format json run -bundle /b abc", "/b"),
            ("--root=/r run --b /b abc", "/b"),
            ("-r /r run --b=/b abc", "/b"),
            ("--root /r run -b/b abc", "/b"),
            ("-r/r run -d --bun /b abc", "/b"),
            ("--root /r run --detach -b=/b -- abc", "/b"),
        ] {
            let read = of(line);
            assert_eq!(
                (read.command.as_str(), read.id.as_deref(), read.root, read.bundle),
                ("run", Some("abc"), Some("/r".into()), Some(bundle.into())),
                "{line}"
            );
        }
        let newer = of("run --not-known-yet /x --bundle /b abc");
        assert_eq!((newer.id.as_deref(), newer.bundle), (Some("abc"), Some("/b".into())));
        for line in [
            "exec --pidfd-socket /s abc date",
            "exec -cwd /tmp abc date",
            "exec -user 0 abc date",
            "exec --u 0 abc date",
            "exec -env A=1 --e B=2 abc date",
            "exec -dp p.json abc",
            "exec -tu0 -eA=b abc sh",
            "exec -tty -detach abc sh",
            "exec --no-new-pri --cg /x abc sh",
        ] {
            assert_eq!(of(line).id.as_deref(), Some("abc"), "{line}");
        }
        assert_eq!(of("features"), Invocation { command: "features".into(), ..Invocation::default() });
        assert_eq!(of("--version").command, "");
    }
}

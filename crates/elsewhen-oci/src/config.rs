//! Which runtime is wrapped, and other settings of this machine: `/etc/elsewhen/oci.toml`.
//!
//! A file, since what starts container runtimes gives them almost no environment.

use crate::containers::place;
use elsewhen::{Error, Result};
use serde::Deserialize;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where the settings are.
const PATH: &str = "/etc/elsewhen/oci.toml";
/// The option, before all others, that names another file.
const OPTION: &str = "--elsewhen-config";
/// What is looked for, in this order.
const RUNTIMES: [&str; 3] = ["runc", "crun", "youki"];
/// Where, behind `PATH`.
const FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Runtimes whose programs are not processes of this kernel, by what their names begin with.
const FOREIGN: [(&str, &str); 4] = [
    ("runsc", "gVisor is a kernel of its own"),
    ("kata", "Kata Containers are virtual machines"),
    ("krun", "krun starts virtual machines"),
    ("crun-vm", "crun-vm starts virtual machines"),
];

/// Settings of this machine.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// The runtime that is wrapped: a path, or a name.
    runtime: Option<PathBuf>,
    /// A file for what agents have to say, beside what `elsewhen show` prints.
    pub(crate) log: Option<PathBuf>,
}

impl Config {
    /// Takes the option that says where the settings are out of the arguments.
    pub(crate) fn path(arguments: &mut Vec<OsString>) -> Option<PathBuf> {
        match arguments.first().and_then(|first| first.to_str()) {
            Some(OPTION) if arguments.len() > 1 => Some(PathBuf::from(arguments.drain(..2).nth(1).unwrap_or_default())),
            Some(first) if first.starts_with(&format!("{OPTION}=")) => {
                let path = PathBuf::from(&first[OPTION.len() + 1..]);
                arguments.remove(0);
                Some(path)
            }
            _ => None,
        }
    }

    /// Reads the settings.
    ///
    /// # Errors
    /// Where the file cannot be read or understood. The default one may be missing.
    pub(crate) fn read(named: Option<PathBuf>) -> Result<Self> {
        let path = named.as_deref().unwrap_or(Path::new(PATH));
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => String::new(),
            other => other.map_err(|error| Error::other(format!("read {}: {error}", path.display())))?,
        };
        toml::from_str(&text).map_err(|error| {
            let message = error.message().replace('\n', " ");
            Error::other(format!("{}: {message}", path.display()))
        })
    }

    /// The runtime to execute: the one that the settings name, or that this program's own name does (`elsewhen-crun`), or the
    /// first that is there.
    ///
    /// # Errors
    /// Where there is none.
    pub(crate) fn runtime(&self, own_name: Option<&OsStr>) -> Result<PathBuf> {
        let own_name = own_name.map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str).unwrap_or_default();
        let by_name = own_name.strip_prefix("elsewhen-").filter(|name| *name != "oci");
        let named = self.runtime.clone().or(by_name.map(PathBuf::from));
        match named {
            Some(path) if path.is_absolute() && is_ours(&path) => {
                Err(Error::other(format!("{} is this program itself", path.display())))
            }
            Some(path) if path.is_absolute() => Ok(path),
            Some(name) => search(&name).ok_or_else(|| Error::other(format!("there is no runtime {}", name.display()))),
            None => RUNTIMES.iter().find_map(|name| search(Path::new(name))).ok_or_else(|| {
                Error::other(format!("there is no {}; name a runtime in {PATH}", RUNTIMES.join(", no ")))
            }),
        }
    }
}

fn search(name: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.iter().map(PathBuf::from));
    folders
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|path| is_program(path) && !is_ours(path))
}

/// Whether a path leads to this program, which would execute itself for ever.
fn is_ours(path: &Path) -> bool {
    let ours = place(fs::metadata("/proc/self/exe"));
    ours.is_some() && place(fs::metadata(path)) == ours
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// Why a runtime's containers cannot be in a time of their own, where that is known.
pub(crate) fn refusal_of(runtime: &Path) -> Option<String> {
    let real = fs::canonicalize(runtime).unwrap_or_else(|_| runtime.to_owned());
    let names = [runtime, &real].map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    let foreign = FOREIGN.iter().find(|(prefix, _)| names.iter().any(|name| name.starts_with(prefix)))?;
    Some(format!("{} cannot be wrapped: {}", runtime.display(), foreign.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_names_the_runtime() {
        let config = Config { runtime: Some("/opt/runc".into()), ..Config::default() };
        assert_eq!(config.runtime(None).unwrap(), Path::new("/opt/runc"));
        let error = Config::default().runtime(Some(OsStr::new("/x/elsewhen-no-such"))).unwrap_err();
        assert_eq!(error.to_string(), "there is no runtime no-such");
    }

    #[test]
    fn settings_are_checked() {
        let folder = std::env::temp_dir();
        let file = folder.join(format!("elsewhen-oci-{}.toml", std::process::id()));
        let read = |text: &str| {
            fs::write(&file, text).unwrap();
            let mut arguments = vec![OPTION.into(), file.clone().into(), "create".into()];
            let config = Config::read(Config::path(&mut arguments));
            assert_eq!(arguments, ["create"]);
            config.map_err(|error| error.to_string())
        };
        assert_eq!(read("runtime = '/opt/crun'").unwrap().runtime(None).unwrap(), Path::new("/opt/crun"));
        let message = read("runtme = '/opt/crun'").unwrap_err();
        assert!(message.contains("runtme") && !message.contains('\n'), "{message}");
        fs::remove_file(&file).unwrap();
    }

    #[test]
    fn runtimes_of_other_kernels_are_refused() {
        assert!(refusal_of(Path::new("/usr/bin/runsc")).is_some_and(|reason| reason.contains("gVisor")));
        assert!(refusal_of(Path::new("/usr/sbin/runc")).is_none());
    }
}

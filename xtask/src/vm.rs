//! `cargo xtask vm`: the tests, or a command, on another kernel.
//!
//! The machine's root is the host's, read-only, with a file system in memory laid over it. So the tests find the programs
//! that they use, the build's output and their sources where they are on the host, and nothing has to be installed. A machine of
//! another architecture has programs of Debian for a root, and of the host's files the workspace and its builds.

use crate::apt::Apt;
use crate::arch::Platform;
use crate::initramfs::Archive;
use crate::kernel::Kernel;
use crate::machine::{self, Machine};
use crate::{Vm, tools, userland};
use elsewhen_image::elf::{Elf, PT_INTERP};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The first process of the machine: reaches the host's files, and lets the script run among them.
const INIT: &str = include_str!("init.sh");

/// Runs what was asked for, and returns its exit status.
pub(crate) fn run(vm: &Vm) -> Result<u8, String> {
    let workspace = workspace()?;
    let platform = vm.arch.platform();
    let qemu = tools::path(platform.qemu, platform.qemu_package)?;
    let cache = workspace.target.join("vm");
    let apt = match platform.cross {
        None => Apt::of_host(platform.debian),
        Some(_) => Apt::new(&cache.join(format!("apt-{}", platform.debian)), platform.debian)?,
    };
    // The root of a machine like this one is the host's.
    let root = platform.cross.map(|_| userland::get(&apt, &cache)).transpose()?;
    let busybox = busybox(root.as_deref(), platform.elf_machine)?;
    let kernel = Kernel::get(&vm.kernel, &apt, &cache)?;
    let script = match &vm.command {
        Some(command) => {
            let mut build = cargo_for(&platform, "build")?;
            tools::run(build.args(["--quiet", "--package", "elsewhen-cli"]).current_dir(&workspace.root))?;
            command.clone()
        }
        None => {
            let words = [test_binary(&platform, &workspace.root)?.into_os_string()];
            let words = words.iter().chain(&vm.tests).chain(&vm.options);
            words.map(quoted).collect::<Result<Vec<_>, _>>()?.join(" ")
        }
    };

    let mut files = Archive::new();
    for folder in ["bin", "modules", "proc", "sys", "dev", "host", "memory", "root"] {
        files.folder(folder);
    }
    files.file("bin/busybox", &busybox);
    for (number, module) in kernel.modules(platform.elf_machine)?.iter().enumerate() {
        files.file(&format!("modules/{number:02}.ko"), module);
    }
    let init = INIT
        .replace("@BOUND@", &vm.timeout.as_secs().to_string())
        .replace("@ROOT@", &quoted(Path::new("/host").join(shared(root.as_deref())?))?)
        .replace("@SHARED@", &if root.is_some() { shared_folders(&workspace)? } else { String::new() })
        .replace("@BEGIN@", machine::BEGIN)
        .replace("@STATUS@", machine::STATUS);
    files.file("init", init.as_bytes());
    files.file("script", format!("{}{script}\n", surroundings(&workspace.root, vm.cpus, root.is_some())?).as_bytes());

    eprintln!(
        "xtask: Linux {} on {} with {} processors and {} MiB",
        kernel.release, platform.debian, vm.cpus, vm.memory
    );
    let append = vm.append.clone();
    let machine = Machine { qemu, platform, kernel: kernel.image, append, memory: vm.memory, cpus: vm.cpus };
    machine.run(&files.finish(), vm.timeout)
}

/// Where the workspace is, and where its builds go.
struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

fn workspace() -> Result<Workspace, String> {
    let metadata = tools::bytes(
        cargo().args(["metadata", "--no-deps", "--format-version=1"]).current_dir(env!("CARGO_MANIFEST_DIR")),
    )?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&metadata).map_err(|error| format!("read what cargo metadata says: {error}"))?;
    let path = |key: &str| {
        metadata[key].as_str().map(PathBuf::from).ok_or_else(|| format!("cargo metadata does not say the {key}"))
    };
    Ok(Workspace { root: path("workspace_root")?, target: path("target_directory")? })
}

/// The cargo that runs this.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.stdin(Stdio::null());
    cargo
}

/// That cargo, to run a command for the programs of a machine.
fn cargo_for(platform: &Platform, command: &str) -> Result<Command, String> {
    let mut cargo = cargo();
    cargo.arg(command);
    if let Some(cross) = platform.cross {
        tools::path(cross.linker, cross.linker_packages)?;
        cargo.arg("--target").arg(cross.target).env(cross.variable, cross.linker);
    }
    Ok(cargo)
}

/// Builds the behaviour tests, and says where they are.
fn test_binary(platform: &Platform, root: &Path) -> Result<PathBuf, String> {
    let build =
        ["--no-run", "--quiet", "--package=elsewhen-cli", "--test=it", "--message-format=json-render-diagnostics"];
    let messages = tools::output(cargo_for(platform, "test")?.args(build).current_dir(root))?;
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut tests =
        artifacts.filter(|artifact| artifact["target"]["name"] == "it" && artifact["profile"]["test"] == true);
    tests
        .find_map(|artifact| artifact["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| "cargo test --no-run does not say where the tests are".to_owned())
}

/// What a shell needs before it can run what was asked for, as it would run here.
fn surroundings(root: &Path, cpus: u32, is_foreign: bool) -> Result<String, String> {
    let mut lines = String::new();
    if is_foreign {
        lines += "export PATH=/usr/sbin:/usr/bin HOME=/root\n";
    }
    for name in if is_foreign { &[][..] } else { &["PATH", "HOME"] } {
        if let Some(value) = std::env::var_os(name) {
            lines += &format!("export {name}={}\n", quoted(&value)?);
        }
    }
    Ok(format!(
        "{lines}export RUST_TEST_THREADS={cpus} RUST_BACKTRACE=1\ncd {} || exit 125\n",
        quoted(root.as_os_str())?
    ))
}

/// A word as the shell reads it back.
fn quoted(word: impl AsRef<OsStr>) -> Result<String, String> {
    let word = word.as_ref();
    let text = word.to_str().ok_or_else(|| format!("{} is not UTF-8", OsString::from(word).display()))?;
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

/// Where a root lies in the host's files.
fn shared(root: Option<&Path>) -> Result<&Path, String> {
    let Some(root) = root else { return Ok(Path::new("")) };
    root.strip_prefix("/").map_err(|_| format!("{} is no absolute path", root.display()))
}

/// The host's folders that a machine with a root of its own has at their paths, as words of a shell.
fn shared_folders(workspace: &Workspace) -> Result<String, String> {
    let mut words = quoted(&workspace.root)?;
    if !workspace.target.starts_with(&workspace.root) {
        words = format!("{words} {}", quoted(&workspace.target)?);
    }
    Ok(words)
}

/// The one program of the machine until it has a root.
fn busybox(root: Option<&Path>, machine: u16) -> Result<Vec<u8>, String> {
    let path = match root {
        Some(root) => root.join("usr/bin/busybox"),
        None => tools::path("busybox", "busybox-static")?,
    };
    let bytes = fs::read(&path).map_err(|error| format!("read {}: {error}", path.display()))?;
    let dynamic =
        Elf::of_64_bit(&bytes, machine).is_none_or(|elf| elf.segments().any(|segment| segment.kind == PT_INTERP));
    if dynamic {
        return Err(format!("{} needs libraries; install the package busybox-static", path.display()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_whatever_it_contains() {
        assert_eq!(quoted("guests::").as_deref(), Ok("'guests::'"));
        assert_eq!(quoted("it's $HOME").as_deref(), Ok(r"'it'\''s $HOME'"));
    }
}

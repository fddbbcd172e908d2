//! Programs of Debian for a machine of another architecture, unpacked into a folder that becomes its root.
//!
//! Nothing is installed: no script of a package runs. What such scripts would do and tests need is done here.

use crate::apt::Apt;
use crate::{cache, tools};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// What the behaviour tests run, and what brings them.
const PACKAGES: [&str; 21] = [
    "bash",
    "busybox-static",
    "coreutils",
    "dash",
    "diffutils",
    "findutils",
    "gcc",
    "golang-go",
    "grep",
    "hostname",
    "libc6-dev",
    "libgcc-s1",
    "make",
    "mawk",
    "musl-tools",
    "procps",
    "python3-minimal",
    "sed",
    "strace",
    "tzdata",
    "util-linux",
];

/// Folders that have been merged with those of the same names below `usr`.
const MERGED: [&str; 3] = ["bin", "sbin", "lib"];

/// Links that packages' scripts make, where the packages have none.
const LINKS: [(&str, &str); 3] = [("usr/bin/sh", "dash"), ("usr/bin/cc", "gcc"), ("usr/bin/awk", "mawk")];

/// The root, which is made, whole, where it is missing.
pub(crate) fn get(apt: &Apt, cache: &Path) -> Result<PathBuf, String> {
    let root = cache.join(format!("root-{}", apt.architecture()));
    cache::once(&root, |fresh| {
        eprintln!("xtask: unpacking programs for {}", apt.architecture());
        make(apt, fresh)?;
        Ok(fresh.to_owned())
    })?;
    Ok(root)
}

fn make(apt: &Apt, root: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("create {}: {error}", root.display());
    for name in MERGED {
        fs::create_dir_all(root.join("usr").join(name)).map_err(failed)?;
        symlink(format!("usr/{name}"), root.join(name)).map_err(failed)?;
    }
    let packages = root.join("packages");
    fs::create_dir_all(packages.join("partial")).map_err(failed)?;
    tools::run(
        apt.command("apt-get")?
            .args(["install", "--yes", "--quiet=2", "--download-only"])
            .arg(format!("--option=Dir::Cache::archives={}", packages.display()))
            .args(PACKAGES)
            .stdout(Stdio::null()),
    )?;
    for package in fs::read_dir(&packages).map_err(failed)?.flatten() {
        if package.path().extension().is_some_and(|extension| extension == "deb") {
            unpack(&package.path(), root)?;
        }
    }
    fs::remove_dir_all(&packages).map_err(failed)?;
    for (link, to) in LINKS.map(|(link, to)| (root.join(link), to)) {
        if fs::symlink_metadata(&link).is_err() {
            symlink(to, &link).map_err(failed)?;
        }
    }
    for folder in ["dev", "proc", "run", "sys", "tmp", "root"] {
        fs::create_dir_all(root.join(folder)).map_err(failed)?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/bin/false\n")
        .map_err(failed)?;
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n").map_err(failed)
}

/// Unpacks a package over what is there, through the links of merged folders.
fn unpack(package: &Path, root: &Path) -> Result<(), String> {
    let mut reader = tools::find("dpkg-deb", "dpkg")?;
    reader.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped());
    let mut child = reader.spawn().map_err(|error| format!("read {}: {error}", package.display()))?;
    let archive = child.stdout.take().expect("its output is piped");
    let unpacked = tools::run(
        tools::find("tar", "tar")?
            .args(["--extract", "--keep-directory-symlink", "--directory"])
            .arg(root)
            .stdin(Stdio::from(archive)),
    );
    let status = child.wait().map_err(|error| format!("read {}: {error}", package.display()))?;
    unpacked?;
    if status.success() { Ok(()) } else { Err(format!("{} is no package: {status}", package.display())) }
}

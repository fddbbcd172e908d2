//! Kernels of Debian: which one, from where, and which of its modules a machine needs.

use crate::apt::Apt;
use crate::{cache, tools};
use elsewhen_image::elf::Elf;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// What reaches the host's files, and lays a file system of its own over them.
const NEEDED: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];

/// A kernel, unpacked.
pub(crate) struct Kernel {
    /// The kernel that is loaded.
    pub(crate) image: PathBuf,
    /// Its release, as `uname -r` tells it.
    pub(crate) release: String,
    modules: PathBuf,
}

impl Kernel {
    /// The kernel that was asked for: a series, of which the newest is taken that apt knows, or a package's file.
    pub(crate) fn get(asked: &str, apt: &Apt, cache: &Path) -> Result<Self, String> {
        if asked.ends_with(".deb") {
            let package = Path::new(asked).canonicalize().map_err(|error| format!("read {asked}: {error}"))?;
            let name = package.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            return Self::unpacked(&cache.join(&name), |_| Ok(package));
        }
        let name = newest(
            asked,
            apt.architecture(),
            &tools::output(apt.command("apt-cache")?.args(["search", "--names-only", "^linux-image-"]))?,
        )
        .ok_or_else(|| format!("apt knows no kernel {asked} for {}; apt-get update may help", apt.architecture()))?;
        Self::unpacked(&cache.join(&name), |folder| {
            tools::run(apt.command("apt-get")?.args(["download", "--quiet=2", &name]).current_dir(folder))?;
            only(folder, |name| name.ends_with(".deb"))
        })
    }

    /// The kernel in a folder, which is made, whole, where it is missing.
    fn unpacked(folder: &Path, fetch: impl FnOnce(&Path) -> Result<PathBuf, String>) -> Result<Self, String> {
        cache::once(folder, |fresh| {
            let (package, root) = (fetch(fresh)?, fresh.join("root"));
            tools::run(tools::find("dpkg-deb", "dpkg")?.arg("--extract").arg(&package).arg(&root))?;
            Ok(root)
        })?;
        let image = only(&folder.join("boot"), |name| name.starts_with("vmlinuz-"))?;
        let root = ["usr/lib/modules", "lib/modules"].map(|path| folder.join(path));
        let modules = only(root.iter().find(|path| path.is_dir()).unwrap_or(&root[0]), |_| true)?;
        let release = modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { image, release, modules })
    }

    /// The modules that a machine needs, as they are to be loaded, one after the other.
    pub(crate) fn modules(&self, machine: u16) -> Result<Vec<Vec<u8>>, String> {
        let mut paths = HashMap::new();
        find_modules(&self.modules.join("kernel"), &mut paths)
            .map_err(|error| format!("look for modules in {}: {error}", self.modules.display()))?;
        let builtin = fs::read_to_string(self.modules.join("modules.builtin"))
            .map_err(|error| format!("read modules.builtin of {}: {error}", self.release))?;
        let builtin: Vec<String> = builtin.lines().map(|line| module_name(Path::new(line))).collect();
        let (mut seen, mut loaded) = (Vec::new(), Vec::new());
        for name in NEEDED {
            if !builtin.iter().any(|known| known == name) {
                load(name, machine, &paths, &mut seen, &mut loaded)?;
            }
        }
        Ok(loaded)
    }
}

/// Appends a module behind those that it depends on. The package has no `modules.dep`: that is made where it is installed.
fn load(
    name: &str,
    machine: u16,
    paths: &HashMap<String, PathBuf>,
    seen: &mut Vec<String>,
    loaded: &mut Vec<Vec<u8>>,
) -> Result<(), String> {
    if seen.iter().any(|known| known == name) {
        return Ok(());
    }
    seen.push(name.to_owned());
    let path = paths.get(name).ok_or_else(|| format!("this kernel has no module {name}"))?;
    let module = match path.extension().and_then(OsStr::to_str) {
        Some("xz") => tools::bytes(tools::find("xz", "xz-utils")?.arg("-dc").arg(path))?,
        _ => fs::read(path).map_err(|error| format!("read {}: {error}", path.display()))?,
    };
    for needed in dependencies(&module, machine).ok_or_else(|| format!("{} is no module", path.display()))? {
        load(&needed, machine, paths, seen, loaded)?;
    }
    loaded.push(module);
    Ok(())
}

/// What `modinfo -F depends` tells of a module.
fn dependencies(module: &[u8], machine: u16) -> Option<Vec<String>> {
    let elf = Elf::of_64_bit(module, machine)?;
    let section = elf.sections().find(|&section| elf.section_name(section) == Some(b".modinfo"))?;
    let entries = elf.slice(section.offset, section.size)?.split(|&byte| byte == 0);
    let depends = entries.filter_map(|entry| entry.strip_prefix(b"depends=")).next()?;
    let names = String::from_utf8_lossy(depends);
    Some(names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect())
}

/// The modules below a folder, by their names.
fn find_modules(folder: &Path, found: &mut HashMap<String, PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            find_modules(&path, found)?;
        } else {
            found.insert(module_name(&path), path);
        }
    }
    Ok(())
}

/// The name of the module in a file: dashes and underscores are the same.
fn module_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().replace('-', "_")
}

/// The newest signed kernel of a series, of those that `apt-cache search` lists, for ordinary machines.
fn newest(series: &str, architecture: &str, listed: &str) -> Option<String> {
    let names = listed.lines().filter(|line| line.contains("(signed)")).filter_map(|line| line.split(' ').next());
    let kernels = names.filter_map(|name| {
        let version = name.strip_prefix("linux-image-")?.strip_suffix(architecture)?.strip_suffix('-')?;
        let rest = version.strip_prefix(series)?.strip_prefix('.')?;
        let special =
            ["-rt", "-cloud", "-dbg", "-unsigned", "-16k", "-64k"].iter().any(|flavour| rest.contains(flavour));
        let numbers: Vec<u64> =
            rest.split(|sign: char| !sign.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect();
        (!special).then_some((numbers, name))
    });
    Some(kernels.max()?.1.to_owned())
}

/// The one entry of a folder whose name fits.
fn only(folder: &Path, fits: impl Fn(&str) -> bool) -> Result<PathBuf, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("read {}: {error}", folder.display()))?;
    let mut fitting = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(&fits));
    match (fitting.next(), fitting.next()) {
        (Some(entry), None) => Ok(entry.path()),
        (None, _) => Err(format!("{} lacks what a kernel's package has", folder.display())),
        (Some(_), Some(_)) => Err(format!("{} has more than a kernel's package has", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_series_is_taken_by_its_numbers() {
        let listed = "\
            linux-image-amd64 - Linux for 64-bit PCs (meta-package)\n\
            linux-image-6.1.0-9-amd64 - Linux 6.1 for 64-bit PCs (signed)\n\
            linux-image-6.1.0-50-amd64 - Linux 6.1 for 64-bit PCs (signed)\n\
            linux-image-6.1.0-51-rt-amd64 - Linux 6.1 for 64-bit PCs, PREEMPT_RT (signed)\n\
            linux-image-6.1.0-52-cloud-amd64 - Linux 6.1 for x86-64 cloud (signed)\n\
            linux-image-6.1.0-53-amd64-dbg - Debug symbols for linux-image-6.1.0-53-amd64\n\
            linux-image-6.1.0-54-amd64-unsigned - Linux 6.1 for 64-bit PCs\n\
            linux-image-6.12-amd64 - Linux for 64-bit PCs (meta-package)\n\
            linux-image-6.12.99+deb12-amd64 - Linux 6.12 for 64-bit PCs (signed)\n\
            linux-image-6.12.117+deb12-amd64 - Linux 6.12 for 64-bit PCs (signed)\n\
            linux-image-6.12.118+deb12-arm64 - Linux 6.12 for 64-bit ARMv8 machines (signed)\n\
            linux-image-6.12.119+deb12-arm64-16k - Linux 6.12 for 64-bit ARMv8 machines with 16k pages (signed)\n";
        assert_eq!(newest("6.12", "arm64", listed).as_deref(), Some("linux-image-6.12.118+deb12-arm64"));
        assert_eq!(newest("6.1", "amd64", listed).as_deref(), Some("linux-image-6.1.0-50-amd64"));
        assert_eq!(newest("6.12", "amd64", listed).as_deref(), Some("linux-image-6.12.117+deb12-amd64"));
        assert_eq!(newest("6", "amd64", listed).as_deref(), Some("linux-image-6.12.117+deb12-amd64"));
        assert_eq!(newest("5.10", "amd64", listed), None);
    }

    #[test]
    fn a_module_has_one_name_however_its_file_is_written() {
        assert_eq!(module_name(Path::new("kernel/drivers/virtio/virtio-pci.ko.xz")), "virtio_pci");
        assert_eq!(module_name(Path::new("kernel/fs/9p/9p.ko")), "9p");
    }
}

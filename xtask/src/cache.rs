//! Folders that are made once and kept: each is there whole, or not at all.

use std::fs;
use std::path::{Path, PathBuf};

/// Makes a folder where it is missing. `make` is given an empty one beside it, and returns what of that is to become the folder.
///
/// What a run leaves that is killed, the next one removes. Of several runs at once one makes it and the others wait.
pub(crate) fn once(folder: &Path, make: impl FnOnce(&Path) -> Result<PathBuf, String>) -> Result<(), String> {
    let failed = |error| format!("create {}: {error}", folder.display());
    let beside = |suffix: &str| {
        let mut name = folder.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder.parent().unwrap_or(folder)).map_err(failed)?;
    let lock = fs::File::create(beside(".lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    if folder.is_dir() {
        return Ok(());
    }
    let fresh = Unfinished(beside(".new"));
    drop(Unfinished(fresh.0.clone()));
    fs::create_dir(&fresh.0).map_err(failed)?;
    fs::rename(make(&fresh.0)?, folder).map_err(failed)
}

/// A folder that goes away with the value.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What cannot be removed is in the way of the next run, which says so.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_whole_and_once() {
        let work = std::env::temp_dir().join(format!("elsewhen-{}-cache", std::process::id()));
        fs::create_dir_all(work.join("kernel-6.1.new/left")).unwrap();
        let folder = work.join("kernel-6.1");
        assert_eq!(once(&folder, |_| Err("no network".into())), Err("no network".into()));
        assert!(!folder.exists() && !work.join("kernel-6.1.new").exists());
        let makes = |fresh: &Path| {
            assert_eq!(fs::read_dir(fresh).unwrap().count(), 0, "what another run has left is not there");
            fs::create_dir_all(fresh.join("root/boot")).unwrap();
            Ok(fresh.join("root"))
        };
        once(&folder, makes).unwrap();
        assert!(folder.join("boot").is_dir() && !work.join("kernel-6.1.new").exists());
        once(&folder, |_| panic!("it is there")).unwrap();
        fs::remove_dir_all(&work).unwrap();
    }
}

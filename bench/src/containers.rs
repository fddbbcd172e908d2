//! Milliseconds that the container runtime wrapper adds: to what it passes on, to a container's run, to a session in one.

use crate::Result;
use crate::report::{Cell, Table};
use crate::statistics::Sorted;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Rounds that are thrown away.
const WARM_UP: u32 = 3;
/// A round takes seconds of a tenth: not as many as of reads.
const ROUNDS_MAX: u32 = 60;

/// Measures, with runc, where that is there and this is root.
pub(crate) fn run(elsewhen: &Path, rounds: u32) -> Result<Vec<Table>> {
    let rounds = rounds.min(ROUNDS_MAX);
    let mut table = Table {
        title: "Containers".to_owned(),
        columns: ["what", "by", "min ms", "median ms", "more than runc, ms"].map(str::to_owned).to_vec(),
        rows: Vec::new(),
        notes: Vec::new(),
    };
    let wrapper = elsewhen.with_file_name("elsewhen-oci");
    let missing = [Path::new("/bin/busybox"), &wrapper].into_iter().find(|path| !path.exists());
    let runc = ["/usr/sbin/runc", "/usr/bin/runc"].into_iter().find(|path| Path::new(path).exists());
    let (None, Some(runc), true) = (missing, runc, rustix::process::geteuid().is_root()) else {
        table.notes.push("skipped: needs root, runc and /bin/busybox".to_owned());
        return Ok(vec![table]);
    };
    let place = Place::new()?;
    let by = [("runc", Path::new(runc)), ("elsewhen-oci", wrapper.as_path())];
    let config = place.folder.join("oci.toml");
    fs::write(&config, format!("runtime = '{runc}'\n"))?;
    let command = |program: &Path| {
        let mut command = Command::new(program);
        if program == wrapper {
            command.arg("--elsewhen-config").arg(&config);
        }
        command.arg("--root").arg(place.folder.join("state")).env("ELSEWHEN_RUNTIME_DIR", &place.folder);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    };
    let plain = place.bundle("plain", json!({}), &["true"])?;
    let shifted = place.bundle("shifted", json!({ "org.elsewhen.offset": "1h" }), &["true"])?;
    let stays = [
        ("plain-stays", place.bundle("plain-stays", json!({}), &["sleep", "1000"])?),
        ("shifted-stays", place.bundle("shifted-stays", json!({ "org.elsewhen.offset": "1h" }), &["sleep", "1000"])?),
    ];
    let running: Vec<Deleted<'_>> = stays
        .iter()
        .map(|(id, bundle)| {
            let mut run = command(&wrapper);
            ended(run.arg("run").arg("-d").arg("--bundle").arg(bundle).arg(id).stderr(Stdio::null()))?;
            Ok(Deleted(command(&wrapper), id))
        })
        .collect::<Result<_>>()?;

    let cases: [(&str, &str, usize, Vec<&str>); 8] = [
        ("--version", "runc", 0, vec!["--version"]),
        ("--version", "elsewhen-oci", 1, vec!["--version"]),
        ("run, nothing asked", "runc", 0, vec!["run", "--bundle", &plain, "plain"]),
        ("run, nothing asked", "elsewhen-oci", 1, vec!["run", "--bundle", &plain, "plain"]),
        ("run, an hour ahead", "elsewhen-oci", 1, vec!["run", "--bundle", &shifted, "shifted"]),
        ("exec, nothing asked", "runc", 0, vec!["exec", stays[0].0, "true"]),
        ("exec, nothing asked", "elsewhen-oci", 1, vec!["exec", stays[0].0, "true"]),
        ("exec, an hour ahead", "elsewhen-oci", 1, vec!["exec", stays[1].0, "true"]),
    ];
    // Which case is the first of its kind.
    let base = [0, 0, 2, 2, 2, 5, 5, 5];
    let mut results = vec![Vec::new(); cases.len()];
    for round in 0..rounds + WARM_UP {
        for turn in 0..cases.len() {
            let index = (turn + round as usize) % cases.len();
            let (_, _, program, arguments) = &cases[index];
            let began = Instant::now();
            ended(command(by[*program].1).args(arguments))?;
            if round >= WARM_UP {
                results[index].push(began.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    drop(running);
    for (index, (what, name, ..)) in cases.iter().enumerate() {
        let ms = Sorted::new(results[index].iter().copied());
        let more =
            Sorted::new(results[index].iter().zip(&results[base[index]]).map(|(this, runc)| this - runc)).median();
        let more = if *name == "runc" { Cell::Nothing } else { Cell::Number(more, 2) };
        table.rows.push(vec![
            Cell::text(*what),
            Cell::text(*name),
            Cell::Number(ms.min(), 2),
            Cell::Number(ms.median(), 2),
            more,
        ]);
    }
    table.notes.push(format!("{rounds} rounds, each case once in each, in turns; until the process started has ended"));
    table.notes.push("more than runc: median of the rounds' differences from runc's time in the same round".to_owned());
    Ok(vec![table])
}

fn ended(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}

/// A container that is deleted with the value.
struct Deleted<'a>(Command, &'a str);

impl Drop for Deleted<'_> {
    fn drop(&mut self) {
        let _ = self.0.args(["delete", "--force", self.1]).status();
    }
}

/// A folder with bundles, removed with the value.
struct Place {
    folder: PathBuf,
}

impl Place {
    fn new() -> Result<Self> {
        let place = Self { folder: std::env::temp_dir().join(format!("elsewhen-bench-oci-{}", std::process::id())) };
        let root = place.folder.join("rootfs");
        for name in ["bin", "dev", "proc", "sys"] {
            fs::create_dir_all(root.join(name))?;
        }
        fs::copy("/bin/busybox", root.join("bin/busybox"))?;
        for name in ["true", "sleep"] {
            symlink("busybox", root.join("bin").join(name))?;
        }
        Ok(place)
    }

    fn bundle(&self, name: &str, annotations: Value, arguments: &[&str]) -> Result<String> {
        let bundle = self.folder.join(name);
        fs::create_dir(&bundle)?;
        ended(Command::new("runc").arg("spec").current_dir(&bundle))?;
        let path = bundle.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(arguments);
        config["root"]["path"] = json!(self.folder.join("rootfs"));
        config["annotations"] = annotations;
        fs::write(&path, config.to_string())?;
        Ok(bundle.to_str().ok_or("the folder for temporary files has a strange name")?.to_owned())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed is a small folder in the one for temporary files.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

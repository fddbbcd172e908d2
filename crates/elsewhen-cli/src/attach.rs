//! `elsewhen attach` and `elsewhen detach`.

use crate::args::{Adopt, Attach, Process};
use crate::{fail, request};
use elsewhen::{Error, Namespace, Status};
use elsewhen_linux::process::{self, Fork};
use elsewhen_linux::signals::Signals;
use std::process::ExitCode;

/// Lets a process enter, and leaves a supervisor behind for it.
pub(crate) fn attach(attach: &Attach, inherited: &[i32]) -> ExitCode {
    let namespace = match &attach.to {
        Some(name) => Namespace::open(name),
        None => match request::of_attach(attach) {
            Ok(spec) => crate::noted(&attach.clocks, Namespace::new(&spec)),
            Err(error) => return fail(&error.to_string()),
        },
    };
    leave_behind(namespace, inherited, |namespace| enter(namespace, attach))
}

/// Leaves a supervisor behind for members that have none.
pub(crate) fn adopt(adopt: &Adopt, inherited: &[i32]) -> ExitCode {
    let namespace = match adopt.target.parse::<u32>() {
        Err(_) => Namespace::open(&adopt.target),
        Ok(pid) => elsewhen::name_of(pid).and_then(|name| match name {
            Some(name) if !name.is_empty() => Namespace::open(&name),
            Some(_) => Namespace::like(pid, &format!("adopted-{pid}")),
            None => Err(Error::other(format!("process {pid} is in no namespace"))),
        }),
    };
    leave_behind(namespace, inherited, |namespace| {
        let members = match adopt.target.parse() {
            Err(_) => namespace.members(),
            Ok(pid) => Status::of_member(pid)?.map(|status| status.members).unwrap_or_default(),
        };
        let (mut adopted, mut failure) = (0, None);
        for pid in members {
            match namespace.adopt(pid) {
                Ok(()) => adopted += 1,
                Err(_) if !process::exists(pid) => {}
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if adopted == 0 => Err(error),
            _ => Ok(()),
        }
    })
}

/// Runs `work` in a process that stays as the supervisor of whom it lets enter.
fn leave_behind(
    namespace: elsewhen::Result<Namespace>,
    inherited: &[i32],
    work: impl FnOnce(&Namespace) -> elsewhen::Result<()>,
) -> ExitCode {
    let namespace = match namespace {
        Ok(namespace) => namespace,
        Err(error) => return fail(&error.to_string()),
    };
    let (ours, theirs) = match process::socket_pair() {
        Ok(sockets) => sockets,
        Err(error) => return fail(&error.to_string()),
    };
    match process::fork() {
        Err(error) => fail(&error.to_string()),
        Ok(Fork::Child) => {
            drop(ours);
            process::set_name(c"elsewhen-super");
            match work(&namespace) {
                // A front that is gone does not matter.
                Ok(()) => drop(rustix::net::send(&theirs, &[0], rustix::net::SendFlags::NOSIGNAL)),
                Err(error) => eprintln!("elsewhen: {error}"),
            }
            // A closed socket tells the front; what announces itself though it could not enter is still to be answered.
            drop(theirs);
            stay(&namespace, inherited)
        }
        Ok(Fork::Parent(_)) => {
            drop(theirs);
            // One byte when all have entered; the supervisor has told why, where not.
            match rustix::net::recv(&ours, &mut [0], rustix::net::RecvFlags::empty()) {
                Ok((_, 1)) => ExitCode::SUCCESS,
                _ => ExitCode::from(crate::FAILURE),
            }
        }
    }
}

/// Serves what has been attached until it has ended.
fn stay(namespace: &Namespace, inherited: &[i32]) -> ! {
    let _ = process::own_session();
    let _signals = Signals::block_all();
    process::close_inherited(inherited);
    for stream in [0, 1, 2] {
        let _ = process::silence(stream);
    }
    let _ = std::env::set_current_dir("/");
    namespace.wait_attached();
    namespace.retire();
    process::exit_now(0)
}

/// Lets the process enter, and its tree: all of it or nothing.
fn enter(namespace: &Namespace, attach: &Attach) -> elsewhen::Result<()> {
    let mut entered = Vec::new();
    let result = loop {
        let tree =
            if attach.process.tree { elsewhen::tree(attach.process.target)? } else { vec![attach.process.target] };
        let next = tree.into_iter().filter(|pid| !entered.contains(pid)).filter(|pid| {
            // What a member has started since is one.
            *pid == attach.process.target || elsewhen::name_of(*pid).is_ok_and(|name| name.is_none())
        });
        let next: Vec<u32> = next.collect();
        if next.is_empty() {
            break Ok(());
        }
        let mut failure = None;
        for pid in next {
            match namespace.attach(pid) {
                Ok(()) => entered.push(pid),
                // One that has ended meanwhile is none of the tree.
                Err(_) if pid != attach.process.target && !process::exists(pid) => entered.push(pid),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        if let Some(error) = failure {
            break Err(error);
        }
    };
    if result.is_err() {
        for pid in entered {
            // It was in no namespace before.
            let _ = Namespace::detach(pid);
        }
    }
    result
}

/// Lets a process leave.
pub(crate) fn detach(detach: &Process) -> ExitCode {
    if !detach.tree {
        return match Namespace::detach(detach.target) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string()),
        };
    }
    let tree = match elsewhen::tree(detach.target) {
        Ok(tree) => tree,
        Err(error) => return fail(&error.to_string()),
    };
    let mut status = ExitCode::SUCCESS;
    for pid in tree {
        match Namespace::detach(pid) {
            Ok(()) => {}
            Err(_) if pid != detach.target && !elsewhen::name_of(pid).is_ok_and(|name| name.is_some()) => {}
            Err(error) => status = fail(&error.to_string()),
        }
    }
    status
}

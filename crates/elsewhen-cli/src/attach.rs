//! `elsewhen attach` and `elsewhen detach`.

use crate::args::{Attach, Detach};
use crate::{fail, request};
use elsewhen::Namespace;
use elsewhen_linux::process::{self, Fork};
use elsewhen_linux::signals::Signals;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

/// Lets a process enter, and leaves a supervisor behind for it.
pub(crate) fn attach(attach: &Attach, inherited: &[i32]) -> ExitCode {
    let namespace = match &attach.to {
        Some(name) => Namespace::open(name),
        None => match request::of_attach(attach) {
            Ok(spec) => Namespace::new(&spec),
            Err(error) => return fail(&error.to_string()),
        },
    };
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
            supervise(&namespace, attach, theirs, inherited)
        }
        Ok(Fork::Parent(_)) => {
            drop(theirs);
            // One byte when all have entered; the supervisor has told why, where not.
            let mut byte = [0];
            match rustix::net::recv(&ours, &mut byte, rustix::net::RecvFlags::empty()) {
                Ok((_, 1)) => ExitCode::SUCCESS,
                _ => ExitCode::from(crate::FAILURE),
            }
        }
    }
}

fn supervise(namespace: &Namespace, attach: &Attach, socket: OwnedFd, inherited: &[i32]) -> ! {
    process::set_name(c"elsewhen-super");
    if let Err(error) = enter(namespace, attach) {
        eprintln!("elsewhen: {error}");
        // Closed descriptors tell the front; what has announced itself and stays behind is still to be answered.
        drop(socket);
        stay(namespace, inherited);
    }
    // A front that is gone does not matter.
    let _ = rustix::net::send(&socket, &[0], rustix::net::SendFlags::NOSIGNAL);
    drop(socket);
    stay(namespace, inherited)
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
        let tree = if attach.tree { elsewhen::tree(attach.target)? } else { vec![attach.target] };
        let next = tree.into_iter().filter(|pid| !entered.contains(pid)).filter(|pid| {
            // What a member has started since is one.
            *pid == attach.target || elsewhen::name_of(*pid).is_ok_and(|name| name.is_none())
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
                Err(_) if pid != attach.target && !process::exists(pid) => entered.push(pid),
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
pub(crate) fn detach(detach: &Detach) -> ExitCode {
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

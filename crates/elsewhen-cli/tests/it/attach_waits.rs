//! Processes that wait while they enter a namespace, or leave it: they wait for what their clocks then say.

use crate::changes::{
    DATES, DEADLINES, DURATIONS, Form, Guest, HOUR, LATE, WAITS, adjustable, in_every_form_that_enters, in_ms, plain,
};
use crate::changes::{rate, seconds, soon};
use elsewhen::{Family, Namespace, Spec};
use std::time::{Duration, Instant};

/// Lets all processes of a guest enter.
#[track_caller]
fn enter(namespace: &Namespace, guest: &Guest, form: Form) {
    for pid in elsewhen::tree(guest.id()).unwrap() {
        namespace.attach(pid).unwrap_or_else(|error| panic!("{form:?}: {error}"));
    }
}

#[track_caller]
fn leave(guest: &Guest, form: Form) {
    for pid in elsewhen::tree(guest.id()).unwrap() {
        Namespace::detach(pid).unwrap_or_else(|error| panic!("{form:?}: {error}"));
    }
}

#[test]
fn who_waits_for_a_date_that_has_passed_inside_waits_no_longer() {
    in_every_form_that_enters("who_waits_for_a_date_that_has_passed_inside_waits_no_longer", |form| {
        let namespace = plain();
        namespace.set(&Spec::new().offset(Family::Realtime, seconds(7200))).unwrap();
        let mut guest = Guest::start_outside(form, HOUR, WAITS);
        guest.none_until("before it enters", in_ms(100));
        enter(&namespace, &guest, form);
        guest.all_until("inside", DATES, soon(), 0);
        guest.none_until("what no step concerns", in_ms(300));
    });
}

#[test]
fn entering_alone_ends_and_lengthens_no_wait() {
    in_every_form_that_enters("entering_alone_ends_and_lengthens_no_wait", |form| {
        let namespace = plain();
        // On a busy machine the shorter waits are over before it has left.
        let (length, mut guest) = [4, 8, 16, 32]
            .into_iter()
            .map(Duration::from_secs)
            .find_map(|length| {
                let guest = Guest::start_outside(form, length, WAITS);
                enter(&namespace, &guest, form);
                leave(&guest, form);
                (guest.started.elapsed() + Duration::from_millis(1500) < length).then_some((length, guest))
            })
            .expect("entering and leaving take half a minute");
        guest.none_until("after it has left", guest.started + length - Duration::from_millis(1500));
        enter(&namespace, &guest, form);
        guest.all_until("inside again", WAITS, guest.started + length + 2 * LATE, 0);
    });
}

#[test]
fn who_enters_a_fast_namespace_waits_at_its_pace() {
    in_every_form_that_enters("who_enters_a_fast_namespace_waits_at_its_pace", |form| {
        let namespace = adjustable();
        namespace.set(&Spec::new().rate(rate(1000.0))).unwrap();
        let mut guest = Guest::start_outside(form, Duration::from_secs(200), &[DEADLINES, DURATIONS].concat());
        guest.none_until("before it enters", Instant::now());
        enter(&namespace, &guest, form);
        guest.all_until("a thousand times as fast", &[DEADLINES, DURATIONS].concat(), soon(), 1_000_000);
    });
}

#[test]
fn who_leaves_waits_by_the_hosts_clock() {
    in_every_form_that_enters("who_leaves_waits_by_the_hosts_clock", |form| {
        let namespace = plain();
        namespace.set(&Spec::new().offset(Family::Realtime, seconds(-7200))).unwrap();
        // Its dates come in an hour of its own, which the host has had for one.
        let mut guest = Guest::start(&namespace, form, HOUR, WAITS);
        guest.none_until("inside", in_ms(100));
        leave(&guest, form);
        guest.all_until("outside", DATES, soon(), 0);
        guest.none_until("what no step concerns", in_ms(300));
    });
}

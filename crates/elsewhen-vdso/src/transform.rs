//! The affine map from host time to member time, and its inverse for deadlines.
//!
//! All times are signed 64-bit nanoseconds (1677 to 2262 for `CLOCK_REALTIME`); products are 128-bit and
//! results saturate at the ends of the range. Host and member time are different types, and a map is the only
//! thing that turns one into the other.

/// Nanoseconds in a second.
pub const NSEC_PER_SEC: i64 = 1_000_000_000;

/// Binary digits after the point of a rate: a rate is a Q10.54 fixed-point number.
///
/// 54 digits keep 1/1000 exact to 6e-14 (two microseconds a year) and leave room for 1000.
pub const RATE_SHIFT: u32 = 54;

/// The rate of a clock that runs at the host's pace.
pub const RATE_ONE: u64 = 1 << RATE_SHIFT;

/// A reading of one of the host's clocks, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostNs(pub i64);

/// A reading of a member's clock, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberNs(pub i64);

/// A host instant at which a member's clock reaches a given reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostDeadline {
    /// The earliest host time at which the member's clock is not before the deadline (saturated).
    At(HostNs),
    /// The clock is frozen before the deadline and never reaches it.
    Never,
}

/// `member = member_ns + (host - host_ns) * mult / 2^54`, rounded down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affine {
    /// Host time of the anchor, in nanoseconds.
    pub host_ns: i64,
    /// Member time of the anchor, in nanoseconds.
    pub member_ns: i64,
    /// Rate in units of 2^-54; 0 is a frozen clock.
    pub mult: u64,
}

impl Affine {
    /// The map that leaves every reading as it is.
    pub const IDENTITY: Self = Self { host_ns: 0, member_ns: 0, mult: RATE_ONE };

    /// The member's reading at a host reading.
    #[inline(always)]
    pub const fn to_member(self, host: HostNs) -> MemberNs {
        // Saturating keeps the product within 128 bits; it matters 292 years from the anchor.
        let elapsed = host.0.saturating_sub(self.host_ns);
        let scaled = (elapsed as i128 * self.mult as i128) >> RATE_SHIFT;
        MemberNs(saturate(self.member_ns as i128 + scaled))
    }

    /// The member's reading, split, where that takes no more than a multiplication: a running clock, less than 104
    /// days after its anchor, reading 1970 or later. `None` elsewhere, which says nothing about the reading.
    #[inline(always)]
    pub const fn to_split_quick(self, host: HostNs) -> Option<Split> {
        let elapsed = host.0.wrapping_sub(self.host_ns) as u64;
        // Rates are below 2^10, so the product stays below 2^(53 + 64) and the quotient below 2^63.
        if elapsed >> 53 != 0 {
            return None;
        }
        let scaled = ((elapsed as u128 * self.mult as u128) >> RATE_SHIFT) as i64;
        let (member_ns, overflow) = self.member_ns.overflowing_add(scaled);
        if overflow || member_ns < 0 {
            return None;
        }
        let (sec, nsec) = (member_ns as u64 / NSEC_PER_SEC as u64, member_ns as u64 % NSEC_PER_SEC as u64);
        Some(Split { sec: sec as i64, nsec: nsec as u32 })
    }

    /// The earliest host time at which the member's clock reads `deadline` or later.
    #[inline(always)]
    pub const fn to_host(self, deadline: MemberNs) -> HostDeadline {
        let remaining = deadline.0 as i128 - self.member_ns as i128;
        if self.mult == RATE_ONE {
            return HostDeadline::At(HostNs(saturate(self.host_ns as i128 + remaining)));
        }
        if self.mult == 0 {
            return if remaining <= 0 { HostDeadline::At(HostNs(i64::MIN)) } else { HostDeadline::Never };
        }
        // The least `elapsed` with `floor(elapsed * mult / 2^54) >= remaining` is the quotient rounded up.
        let magnitude = remaining.unsigned_abs() << RATE_SHIFT;
        let (quotient, rest) = divide(magnitude, self.mult);
        let elapsed = if remaining < 0 { -(quotient as i128) } else { quotient as i128 + (rest != 0) as i128 };
        HostDeadline::At(HostNs(saturate(self.host_ns as i128 + elapsed)))
    }

    /// The offset in nanoseconds where this map runs at the host's pace, `None` where it does not.
    pub const fn offset_ns(self) -> Option<i128> {
        if self.mult == RATE_ONE { Some(self.member_ns as i128 - self.host_ns as i128) } else { None }
    }
}

/// Two maps and the host instant at which the second takes over from the first.
///
/// The instant lies a little in the future when a writer publishes it, so that no reader can have used the
/// first map for a time that belongs to the second: this is what keeps a clock from going back when its rate
/// is lowered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pivot {
    /// Host time from which `after` holds, in nanoseconds.
    pub at_host_ns: i64,
    /// The map before that instant.
    pub before: Affine,
    /// The map from that instant on.
    pub after: Affine,
}

impl Pivot {
    /// One map for all times.
    pub const fn settled(map: Affine) -> Self {
        Self { at_host_ns: i64::MIN, before: map, after: map }
    }

    /// A map that continues `before` at the pace `mult` from the host instant `at`, without a jump.
    pub const fn bend(before: Affine, at: HostNs, mult: u64) -> Self {
        let after = Affine { host_ns: at.0, member_ns: before.to_member(at).0, mult };
        Self { at_host_ns: at.0, before, after }
    }

    /// The map that holds at a host reading.
    #[inline(always)]
    pub const fn at(self, host: HostNs) -> Affine {
        if host.0 < self.at_host_ns { self.before } else { self.after }
    }

    /// The member's reading at a host reading.
    #[inline(always)]
    pub const fn to_member(self, host: HostNs) -> MemberNs {
        self.at(host).to_member(host)
    }

    /// The earliest host time at which the member's clock reads `deadline` or later.
    #[inline(always)]
    pub const fn to_host(self, deadline: MemberNs) -> HostDeadline {
        if let HostDeadline::At(host) = self.before.to_host(deadline)
            && host.0 < self.at_host_ns
        {
            return HostDeadline::At(host);
        }
        match self.after.to_host(deadline) {
            HostDeadline::At(host) if host.0 < self.at_host_ns => HostDeadline::At(HostNs(self.at_host_ns)),
            other => other,
        }
    }
}

/// A reading split as `struct timespec` holds it; `nsec` is in `0..1_000_000_000`, for negative times too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Whole seconds, rounded down.
    pub sec: i64,
    /// The rest, in nanoseconds.
    pub nsec: u32,
}

impl Split {
    /// Splits nanoseconds. Exact for every `i64`.
    #[inline(always)]
    pub const fn from_ns(total_ns: i64) -> Self {
        let sec = total_ns.div_euclid(NSEC_PER_SEC);
        Self { sec, nsec: total_ns.wrapping_sub(sec.wrapping_mul(NSEC_PER_SEC)) as u32 }
    }

    /// Joins seconds and nanoseconds again, saturating.
    #[inline(always)]
    pub const fn to_ns(self) -> i64 {
        saturate(self.sec as i128 * NSEC_PER_SEC as i128 + self.nsec as i128)
    }
}

/// Clamps to the range of `i64`.
#[inline(always)]
const fn saturate(value: i128) -> i64 {
    if value > i64::MAX as i128 {
        i64::MAX
    } else if value < i64::MIN as i128 {
        i64::MIN
    } else {
        value as i64
    }
}

/// Quotient and rest of a dividend below 2^120, by long division: the image has no runtime to divide 128 bits.
#[inline(never)]
const fn divide(dividend: u128, divisor: u64) -> (u128, u128) {
    let (mut quotient, mut rest) = (0, 0);
    let mut bits = 128 - dividend.leading_zeros();
    while bits > 0 {
        bits -= 1;
        rest = rest << 1 | dividend >> bits & 1;
        quotient <<= 1;
        if rest >= divisor as u128 {
            rest -= divisor as u128;
            quotient |= 1;
        }
    }
    (quotient, rest)
}

/// How long a wait of `member_ns` takes on the host at a pace of `mult`, rounded up, saturating.
///
/// A frozen clock's waits elapse at the host's pace.
#[inline(never)]
pub const fn wait_to_host(member_ns: i64, mult: u64) -> i64 {
    if mult == RATE_ONE || mult == 0 || member_ns <= 0 {
        return member_ns;
    }
    let (quotient, rest) = divide((member_ns as u128) << RATE_SHIFT, mult);
    saturate(quotient as i128 + (rest != 0) as i128)
}

/// What a member makes of a wait that takes `host_ns`; the inverse of [`wait_to_host`], rounded down.
pub const fn wait_to_member(host_ns: i64, mult: u64) -> i64 {
    if mult == RATE_ONE || mult == 0 || host_ns <= 0 {
        return host_ns;
    }
    saturate((host_ns as i128 * mult as i128) >> RATE_SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Rates from 1/1000 to 1000, the range that users may ask for.
    fn mult() -> impl Strategy<Value = u64> {
        prop_oneof![Just(RATE_ONE), RATE_ONE / 1000..=RATE_ONE * 1000, Just(RATE_ONE / 1000), Just(RATE_ONE * 1000)]
    }

    fn affine() -> impl Strategy<Value = Affine> {
        (any::<i64>(), any::<i64>(), mult()).prop_map(|(host_ns, member_ns, mult)| Affine { host_ns, member_ns, mult })
    }

    proptest! {
        #[test]
        fn a_wait_scales_back_to_no_less(member_ns in 0..i64::MAX / 1000, mult in mult()) {
            let host_ns = wait_to_host(member_ns, mult);
            prop_assert!(wait_to_member(host_ns, mult) >= member_ns, "no wait ends early");
            prop_assert!(host_ns == 0 || wait_to_member(host_ns - 1, mult) <= member_ns, "nor is it longer than need be");
        }

        #[test]
        fn long_division_divides(dividend in 0..1u128 << 120, divisor in 1u64..) {
            let divisor = u128::from(divisor);
            prop_assert_eq!(divide(dividend, divisor as u64), (dividend / divisor, dividend % divisor));
        }

        #[test]
        fn to_host_is_the_earliest_time_that_reaches_the_deadline(map in affine(), deadline: i64) {
            let HostDeadline::At(host) = map.to_host(MemberNs(deadline)) else { panic!("a running clock gets there") };
            // Where the answer saturated, or lies 292 years from the anchor, there is nothing to check against.
            prop_assume!(host.0.checked_sub(map.host_ns).is_some());
            if host.0 < i64::MAX {
                prop_assert!(map.to_member(host).0 >= deadline);
            }
            if host.0 > i64::MIN && map.to_member(HostNs(host.0 - 1)).0 > i64::MIN {
                prop_assert!(map.to_member(HostNs(host.0 - 1)).0 < deadline || host.0 == i64::MAX);
            }
        }

        #[test]
        fn a_reading_maps_back_to_a_time_no_later_than_its_own(map in affine(), host: i64) {
            prop_assume!(host.checked_sub(map.host_ns).is_some());
            let member = map.to_member(HostNs(host));
            if member.0 > i64::MIN && member.0 < i64::MAX {
                let HostDeadline::At(back) = map.to_host(member) else { panic!("a running clock gets there") };
                prop_assert!(back.0 <= host);
                prop_assert_eq!(map.to_member(back), member);
            }
        }

        #[test]
        fn readings_are_monotonic(map in affine(), a: i64, b: i64) {
            let (early, late) = (a.min(b), a.max(b));
            prop_assert!(map.to_member(HostNs(early)) <= map.to_member(HostNs(late)));
        }

        #[test]
        fn a_bend_never_jumps_and_never_goes_back(before in affine(), at: i64, mult in prop_oneof![Just(0), mult()], steps in prop::collection::vec(0i64..2_000_000, 1..40)) {
            let pivot = Pivot::bend(before, HostNs(at), mult);
            prop_assert_eq!(pivot.after.to_member(HostNs(at)), before.to_member(HostNs(at)));
            let mut host = at.saturating_sub(20_000_000);
            let mut last = pivot.to_member(HostNs(host));
            for step in steps {
                host = host.saturating_add(step);
                let reading = pivot.to_member(HostNs(host));
                prop_assert!(reading >= last);
                last = reading;
            }
        }

        #[test]
        fn an_offset_is_exact(offset: i64, host: i64) {
            let map = Affine { host_ns: 0, member_ns: offset, mult: RATE_ONE };
            prop_assert_eq!(map.to_member(HostNs(host)).0, host.saturating_add(offset));
            prop_assert_eq!(map.offset_ns(), Some(i128::from(offset)));
        }

        #[test]
        fn the_quick_way_agrees_where_it_answers(
            host_ns in -1_000_000i64..i64::MAX / 2,
            member_ns: i64,
            mult in prop_oneof![Just(0), mult()],
            elapsed in prop_oneof![any::<i64>(), 0i64..1 << 53],
        ) {
            let map = Affine { host_ns, member_ns, mult };
            let host = HostNs(host_ns.saturating_add(elapsed));
            if let Some(split) = map.to_split_quick(host) {
                prop_assert_eq!(split, Split::from_ns(map.to_member(host).0));
            } else {
                let far = !(0..1 << 53).contains(&(host.0.wrapping_sub(host_ns)));
                prop_assert!(far || map.to_member(host).0 < 0 || map.to_member(host).0 == i64::MAX || member_ns < 0);
            }
        }

        #[test]
        fn split_and_join_are_inverse(total: i64) {
            let split = Split::from_ns(total);
            prop_assert!(i64::from(split.nsec) < NSEC_PER_SEC);
            prop_assert_eq!(split.to_ns(), total);
        }

        #[test]
        fn a_rate_keeps_its_promise_over_a_century(mult in mult(), seconds in 0i64..3_000_000_000) {
            // 1/1000 is the hardest: the product must be within one part in 10^13 of the rate.
            let map = Affine { host_ns: 0, member_ns: 0, mult };
            let member = map.to_member(HostNs(seconds.saturating_mul(1000)));
            let exact = (i128::from(seconds) * 1000 * i128::from(mult)) >> RATE_SHIFT;
            prop_assert_eq!(i128::from(member.0), exact.min(i128::from(i64::MAX)));
        }
    }

    #[test]
    fn readings_saturate_at_both_ends() {
        let fast = Affine { host_ns: 0, member_ns: 0, mult: RATE_ONE * 1000 };
        assert_eq!(fast.to_member(HostNs(i64::MAX)), MemberNs(i64::MAX));
        assert_eq!(fast.to_member(HostNs(i64::MIN)), MemberNs(i64::MIN));
        let far = Affine { host_ns: i64::MIN, member_ns: i64::MAX, mult: RATE_ONE };
        assert_eq!(far.to_member(HostNs(i64::MAX)), MemberNs(i64::MAX));
        assert_eq!(Split::from_ns(i64::MIN), Split { sec: -9_223_372_037, nsec: 145_224_192 });
        assert_eq!(Split::from_ns(i64::MAX), Split { sec: 9_223_372_036, nsec: 854_775_807 });
        assert_eq!(Split { sec: i64::MAX, nsec: 0 }.to_ns(), i64::MAX);
    }

    #[test]
    fn a_frozen_clock_reaches_only_what_it_has_reached() {
        let frozen = Affine { host_ns: 5, member_ns: 100, mult: 0 };
        assert_eq!(frozen.to_member(HostNs(i64::MAX)), MemberNs(100));
        assert_eq!(frozen.to_host(MemberNs(101)), HostDeadline::Never);
        assert_eq!(frozen.to_host(MemberNs(100)), HostDeadline::At(HostNs(i64::MIN)));
    }

    #[test]
    fn negative_offsets_borrow_from_the_second() {
        let map = Affine { host_ns: 0, member_ns: -1, mult: RATE_ONE };
        assert_eq!(Split::from_ns(map.to_member(HostNs(3 * NSEC_PER_SEC)).0), Split { sec: 2, nsec: 999_999_999 });
        assert_eq!(Split::from_ns(map.to_member(HostNs(0)).0), Split { sec: -1, nsec: 999_999_999 });
    }
}

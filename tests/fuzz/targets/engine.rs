//! The engine under arbitrary operations, against its reference.

use super::input::FuzzInput;
use crate::sim::{Differential, LineTemplate, Operation};

/// Takes the first sequence and the window from the first two bytes, and operations from the rest.
pub fn check(bytes: &[u8]) {
    let mut input = FuzzInput(bytes);
    let first = input.pick(&[1, 0, 1000, 0xffff_fff0, u64::MAX - 1, u64::MAX - 100]);
    let window = input.pick(&[128, 1, 2, 7, 129, 1000, 9000]);
    let mut differential = Differential::new(first, window);
    while !input.is_empty() {
        differential.perform(operation(&mut input));
        differential.check();
    }
    differential.check_delivered();
}

fn operation(input: &mut FuzzInput<'_>) -> Operation {
    match input.byte() % 16 {
        0..3 => Operation::Receive(distance(input), text(input)),
        3..6 => Operation::Admit(distance(input), text(input)),
        6 => Operation::ReceiveVoid(distance(input)),
        7..10 => Operation::Apply,
        10 => Operation::Register(user(input)),
        11 => Operation::Unregister(user(input)),
        12 => Operation::Index(usize::from(input.byte() % 8)),
        13 => Operation::Refuse(usize::from(input.byte() % 4)),
        14 => Operation::SkipGap,
        _ => Operation::Reset,
    }
}

/// Returns a distance that is mostly small, sometimes up to the largest window, or negative.
fn distance(input: &mut FuzzInput<'_>) -> i64 {
    match input.byte() {
        near @ 0..200 => near.into(),
        far @ 200..250 => i64::from(far - 199) * 200,
        rest => 249 - i64::from(rest),
    }
}

fn text(input: &mut FuzzInput<'_>) -> LineTemplate {
    let form = input.byte();
    LineTemplate {
        letter: ['F', 'U', 'B', 'P', 'S'][usize::from(form % 5)],
        users: [user(input), user(input)],
        digits: [1, 1, 1, 4, 9, 20][usize::from(form / 5 % 6)],
    }
}

/// Returns one of a few users, some of whose IDs just fit 32 bits or exceed them.
fn user(input: &mut FuzzInput<'_>) -> u64 {
    match input.byte() {
        small @ 0..240 => (small % 48).into(),
        large @ 240..248 => u64::from(u32::MAX) - 3 + u64::from(large - 240),
        largest => u64::MAX - u64::from(255 - largest),
    }
}

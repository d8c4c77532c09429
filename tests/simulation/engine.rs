//! The engine against its reference, under any operations in any order.

use std::collections::BTreeSet;

use eventserver::engine::Progress;
use proptest::prelude::*;

use crate::sim::{Differential, LineTemplate, Operation};

fn texts() -> impl Strategy<Value = LineTemplate> {
    let letter = prop::sample::select(vec!['F', 'F', 'U', 'B', 'P', 'S', 'S']);
    let digits = prop_oneof![8 => Just(1), 1 => 1..=20_usize];
    (letter, [0..6_u64, 0..6], digits).prop_map(|(letter, users, digits)| LineTemplate {
        letter,
        users,
        digits,
    })
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let distance = || prop_oneof![8 => 0..6_i64, 4 => 0..40_i64, 2 => 0..300_i64, 1 => -3..0_i64];
    let operation = prop_oneof![
        15 => (distance(), texts()).prop_map(|(distance, text)| Operation::Receive(distance, text)),
        15 => (distance(), texts()).prop_map(|(distance, text)| Operation::Admit(distance, text)),
        6 => distance().prop_map(Operation::ReceiveVoid),
        20 => Just(Operation::Apply),
        8 => (0..6_u64).prop_map(Operation::Register),
        4 => (0..6_u64).prop_map(Operation::Unregister),
        2 => (0..6_usize).prop_map(Operation::Index),
        4 => (1..4_usize).prop_map(Operation::Refuse),
        3 => Just(Operation::SkipGap),
        1 => Just(Operation::Reset),
    ];
    prop::collection::vec(operation, 0..300)
}

proptest! {
    #[test]
    fn the_engine_does_what_plain_maps_do(
        first in prop::sample::select(vec![0, 1, 1000, u64::MAX - 100]),
        window in prop::sample::select(vec![1, 2, 7, 128, 129, 1000]),
        operations in operations(),
    ) {
        let mut differential = Differential::new(first, window);
        for operation in operations {
            differential.perform(operation);
            differential.check();
        }
        differential.check_delivered();
    }

    #[test]
    fn any_permutation_within_the_window_gives_the_ordered_result(
        events in prop::collection::vec(texts(), 1..400),
        window in 1..300_u32,
        choices in prop::collection::vec(any::<prop::sample::Index>(), 400),
    ) {
        let lines: Vec<String> =
            (1..).zip(events).map(|(sequence, text)| text.with(sequence)).collect();
        let (mut ordered, mut permuted) = (Differential::new(1, 1), Differential::new(1, window));
        for user in 0..5 {
            ordered.register(user);
            permuted.register(user);
        }
        for line in &lines {
            ordered.receive(line);
            prop_assert_eq!(ordered.apply(), Progress::Applied);
        }
        let mut remaining: BTreeSet<usize> = (0..lines.len()).collect();
        for choice in &choices[..lines.len()] {
            let awaited = permuted.engine.awaited() as usize - 1;
            let allowed: Vec<usize> =
                remaining.range(..awaited + window as usize).copied().collect();
            let next = *choice.get(&allowed);
            remaining.remove(&next);
            permuted.receive(&lines[next]);
            while permuted.apply() == Progress::Applied {}
        }
        prop_assert_eq!(permuted.engine.awaited(), lines.len() as u64 + 1);
        prop_assert_eq!(permuted.sink.delivered, ordered.sink.delivered);
    }
}

#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers of a test")]

use proptest::prelude::*;

use super::*;

fn registers(values: &[i64]) -> Registers {
    let mut registers = Registers::default();
    values.iter().for_each(|value| registers.add(&Value::BigInt(*value)));
    registers
}

fn histogram(values: &[f64]) -> Histogram {
    let mut histogram = Histogram::default();
    values.iter().for_each(|value| histogram.add(*value));
    histogram
}

proptest! {
    #[test]
    fn case_21_registers_merge_to_the_same_bytes_in_any_order(a in prop::collection::vec(0..5_000i64, 0..3_000), b in prop::collection::vec(0..5_000i64, 0..3_000)) {
        let whole = registers(&[a.clone(), b.clone()].concat());
        let (mut left, mut right) = (registers(&a), registers(&b));
        left.merge(&registers(&b));
        right.merge(&registers(&a));
        prop_assert_eq!(left.to_bytes(), whole.to_bytes());
        prop_assert_eq!(right.to_bytes(), whole.to_bytes());
        prop_assert_eq!(Registers::from_bytes(&whole.to_bytes()), Some(whole));
    }

    #[test]
    fn histograms_merge_to_the_same_bytes_in_any_order(a in prop::collection::vec(-1e9..1e9f64, 0..200), b in prop::collection::vec(-1e9..1e9f64, 0..200)) {
        let whole = histogram(&[a.clone(), b.clone()].concat());
        let (mut left, mut right) = (histogram(&a), histogram(&b));
        left.merge(&histogram(&b));
        right.merge(&histogram(&a));
        prop_assert_eq!(left.to_bytes(), whole.to_bytes());
        prop_assert_eq!(right.to_bytes(), whole.to_bytes());
        prop_assert_eq!(Histogram::from_bytes(&whole.to_bytes()), Some(whole));
    }

    #[test]
    fn a_percentile_is_within_one_percent(mut values in prop::collection::vec(0.001..1e9f64, 1..300), rank in 0.0..=1.0f64) {
        let found = histogram(&values).percentile(rank).unwrap();
        values.sort_by(f64::total_cmp);
        let exact = values[(rank * (values.len() - 1) as f64).round() as usize];
        prop_assert!((found - exact).abs() <= 0.010_001 * exact, "{} {}", found, exact);
    }
}

#[test]
fn a_distinct_count_is_within_five_standard_errors() {
    for count in [0i64, 1, 10, 1_000, 20_000, 300_000] {
        let estimate = registers(&(0..count).collect::<Vec<_>>()).estimate();
        assert!((estimate - count).abs() as f64 <= 0.081 * count as f64, "{count}: {estimate}");
    }
}

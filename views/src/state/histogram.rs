//! Percentiles: a log-bucket histogram as in `DDSketch` (Masson, Rim, Lee, VLDB 2019), without collapsing.
//!
//! A value x > 0 falls into the bucket ⌈`log_γ` x⌉ with γ = 1.01 / 0.99; a bucket answers with 2γⁱ / (γ + 1), which is
//! within 1 % of each value in it. Counts add up, so merging has the same bytes in any order. The number of buckets is
//! bounded by the range of DOUBLE: at most about 71,000 for each sign. NaN and infinities take no part.

use std::collections::BTreeMap;

const RELATIVE_ERROR: f64 = 0.01;
const FORM: u8 = 1;

/// The buckets of one percentile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    negative: BTreeMap<i32, u64>,
    zero: u64,
    positive: BTreeMap<i32, u64>,
}

fn gamma() -> f64 {
    (1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR)
}

/// `libm` has the same bits on every machine; the platform's logarithm has not.
#[expect(clippy::cast_possible_truncation, reason = "at most about 36,000 in either direction")]
fn bucket(value: f64) -> i32 {
    (libm::log(value) / libm::log(gamma())).ceil() as i32
}

fn value_of(bucket: i32) -> f64 {
    2.0 * libm::exp(f64::from(bucket) * libm::log(gamma())) / (gamma() + 1.0)
}

impl Histogram {
    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        if value == 0.0 {
            self.zero += 1;
        } else if value > 0.0 {
            *self.positive.entry(bucket(value)).or_default() += 1;
        } else {
            *self.negative.entry(bucket(-value)).or_default() += 1;
        }
    }

    /// Adds up bucket by bucket.
    pub fn merge(&mut self, other: &Self) {
        self.zero += other.zero;
        for (mine, other) in [(&mut self.negative, &other.negative), (&mut self.positive, &other.positive)] {
            for (bucket, count) in other {
                *mine.entry(*bucket).or_default() += count;
            }
        }
    }

    /// The value at `rank`, 0 to 1, of the sorted values; nothing over no values.
    #[must_use]
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank of fewer than 2^53 values")]
    pub fn percentile(&self, rank: f64) -> Option<f64> {
        let total: u64 = self.negative.values().chain(self.positive.values()).sum::<u64>() + self.zero;
        let wanted = (rank * total.checked_sub(1)? as f64).round() as u64;
        let negative = self.negative.iter().rev().map(|(bucket, count)| (-value_of(*bucket), *count));
        let positive = self.positive.iter().map(|(bucket, count)| (value_of(*bucket), *count));
        let mut seen = 0;
        let mut last = None;
        for (value, count) in negative.chain([(0.0, self.zero)]).chain(positive).filter(|(_, count)| *count > 0) {
            seen += count;
            last = Some(value);
            if seen > wanted {
                break;
            }
        }
        last
    }

    /// The canonical bytes: a form byte, then zero's count, then both signs' buckets as (difference, count), all LEB128.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORM];
        write_number(&mut bytes, self.zero);
        for buckets in [&self.negative, &self.positive] {
            write_number(&mut bytes, buckets.len() as u64);
            let mut before = 0i64;
            for (bucket, count) in buckets {
                let difference = i64::from(*bucket) - before;
                write_number(&mut bytes, ((difference << 1) ^ (difference >> 63)).cast_unsigned());
                write_number(&mut bytes, *count);
                before = i64::from(*bucket);
            }
        }
        bytes
    }

    /// What [`Self::to_bytes`] wrote; nothing for other bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&FORM, mut rest) = bytes.split_first()? else { return None };
        let mut histogram = Self { zero: read_number(&mut rest)?, ..Self::default() };
        for negative in [true, false] {
            let mut before = 0i64;
            for _ in 0..read_number(&mut rest)? {
                let zigzag = read_number(&mut rest)?;
                before += (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
                let count = read_number(&mut rest)?;
                let buckets = if negative { &mut histogram.negative } else { &mut histogram.positive };
                buckets.insert(i32::try_from(before).ok()?, count);
            }
        }
        rest.is_empty().then_some(histogram)
    }
}

fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push((number & 0x7f) as u8);
}

fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

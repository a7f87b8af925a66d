//! Functions of numbers.

use anabranch_core::definition::{DataType, Function};

use super::{cast::to_f64, finite};
use crate::value::{Value, canonical};

/// A function whose first argument is a number; nothing where it cannot be computed.
pub(super) fn call(function: Function, arguments: &[Value], data_type: DataType) -> Option<Value> {
    match arguments {
        [Value::BigInt(value)] => match function {
            Function::Abs => integer(i128::from(*value).abs()),
            _ => None,
        },
        [Value::Decimal(value, scale)] => match function {
            Function::Abs => Some(Value::Decimal(value.abs(), *scale)),
            _ => None,
        },
        [Value::Double(value)] => of_double(function, *value),
        [Value::BigInt(left), Value::BigInt(right)] => of_integers(function, i128::from(*left), i128::from(*right)),
        [Value::Decimal(left, left_scale), Value::Decimal(right, right_scale)] => {
            of_decimals(function, (*left, *left_scale), (*right, *right_scale), data_type)
        }
        [Value::Double(left), Value::Double(right)] => of_doubles(function, *left, *right),
        [Value::Double(value), Value::BigInt(digits)] if function == Function::Round => finite(rounded(*value, *digits)?),
        [Value::Double(value), Value::Double(low), Value::Double(high), Value::BigInt(count)] if function == Function::WidthBucket => {
            width_bucket(*value, *low, *high, *count)
        }
        _ => None,
    }
}

fn integer(value: i128) -> Option<Value> {
    i64::try_from(value).ok().map(Value::BigInt)
}

fn of_integers(function: Function, left: i128, right: i128) -> Option<Value> {
    integer(match function {
        Function::Add => left + right,
        Function::Subtract => left - right,
        Function::Multiply => left * right,
        Function::Divide => left.checked_div(right)?,
        Function::Modulo | Function::Mod => left.checked_rem(right)?,
        Function::Gcd => gcd(left, right),
        Function::Lcm if left == 0 || right == 0 => 0,
        Function::Lcm => (left / gcd(left, right) * right).abs(),
        _ => return None,
    })
}

fn gcd(left: i128, right: i128) -> i128 {
    if right == 0 { left.abs() } else { gcd(right, left % right) }
}

fn of_decimals(function: Function, left: (i128, u8), right: (i128, u8), data_type: DataType) -> Option<Value> {
    let scale = data_type.scale();
    Some(Value::Decimal(
        match function {
            Function::Add => left.0.checked_add(right.0)?,
            Function::Subtract => left.0.checked_sub(right.0)?,
            Function::Multiply => left.0.checked_mul(right.0)?,
            Function::Modulo => left.0.checked_rem(right.0)?,
            _ => return None,
        },
        scale,
    ))
}

fn of_doubles(function: Function, left: f64, right: f64) -> Option<Value> {
    let both = left.is_finite() && right.is_finite();
    match function {
        // As the columns of Polars have it: only a zero divisor cannot be computed.
        Function::Add => Some(left + right),
        Function::Subtract => Some(left - right),
        Function::Multiply => Some(left * right),
        Function::Divide => (right != 0.0).then_some(left / right),
        Function::Modulo => (right != 0.0).then_some(left % right),
        Function::Power => {
            let undefined = (left == 0.0 && right < 0.0) || (left < 0.0 && right.fract() != 0.0);
            let power = libm::pow(left, right);
            (!undefined && (power.is_finite() || !both)).then_some(power)
        }
        Function::Atan2 => Some(libm::atan2(left, right)),
        _ => None,
    }
    .map(|value| Value::Double(canonical(value)))
}

/// By libm, whose bits are the same on every machine.
fn of_double(function: Function, value: f64) -> Option<Value> {
    let within = |low: f64, high: f64| (low..=high).contains(&value).then_some(value);
    let result = match function {
        Function::Abs => value.abs(),
        Function::Sign if value == 0.0 => 0.0,
        Function::Sign => value.signum(),
        Function::Ceil => value.ceil(),
        Function::Floor => value.floor(),
        Function::Trunc => value.trunc(),
        Function::Round => value.round_ties_even(),
        Function::Sqrt => within(0.0, f64::INFINITY)?.sqrt(),
        Function::Cbrt => libm::cbrt(value),
        Function::Exp => return finite(libm::exp(value)),
        Function::Ln => libm::log(within(f64::MIN_POSITIVE * f64::EPSILON, f64::INFINITY)?),
        Function::Log10 => libm::log10(within(f64::MIN_POSITIVE * f64::EPSILON, f64::INFINITY)?),
        Function::Degrees => value.to_degrees(),
        Function::Radians => value.to_radians(),
        Function::Sin => libm::sin(value),
        Function::Cos => libm::cos(value),
        Function::Tan => libm::tan(value),
        Function::Asin => libm::asin(within(-1.0, 1.0)?),
        Function::Acos => libm::acos(within(-1.0, 1.0)?),
        Function::Atan => libm::atan(value),
        _ => return None,
    };
    Some(Value::Double(canonical(result)))
}

/// With that many digits behind the point (before it, when negative), from the number's exact binary value.
fn rounded(value: f64, digits: i64) -> Option<f64> {
    const MOST: i64 = 400;
    let digits = digits.clamp(-MOST, MOST);
    match usize::try_from(digits) {
        Ok(digits) => format!("{value:.digits$}").parse().ok(),
        Err(_) => {
            let power = libm::pow(10.0, f64::from(i32::try_from(-digits).ok()?));
            if power.is_finite() { Some((value / power).round_ties_even() * power) } else { Some(0.0) }
        }
    }
}

fn width_bucket(value: f64, low: f64, high: f64, count: i64) -> Option<Value> {
    if count <= 0 || !low.is_finite() || !high.is_finite() || low == high || value.is_nan() || count > i64::from(i32::MAX) {
        return None;
    }
    let (below, above) = if low < high { (value < low, value >= high) } else { (value > low, value <= high) };
    let place = if below {
        0
    } else if above {
        count + 1
    } else {
        #[expect(clippy::cast_possible_truncation, reason = "below the count, which is a small integer")]
        let inside = (to_f64(i128::from(count), 0) * ((value - low) / (high - low))) as i64;
        inside.min(count - 1) + 1
    };
    Some(Value::BigInt(place))
}

//! Functions of texts; positions and lengths count characters.

use std::{cell::RefCell, collections::HashMap};

use anabranch_core::definition::Function;
use md5::{Digest, Md5};
use regex::Regex;

use crate::value::Value;

/// A longer result cannot be computed: one record must not fill memory.
const LONGEST: usize = 1024 * 1024;

/// `concat` and `concat_ws`, which leave NULLs out.
pub(super) fn joined(function: Function, arguments: &[Value]) -> Option<Value> {
    let texts = |arguments: &[Value]| -> Vec<String> {
        let texts = arguments.iter().filter_map(|argument| if let Value::Text(text) = argument { Some(text.clone()) } else { None });
        texts.collect()
    };
    let text = match (function, arguments) {
        (Function::ConcatWith, [Value::Text(between), rest @ ..]) => texts(rest).join(between),
        (Function::ConcatWith, _) => return Some(Value::Null),
        _ => texts(arguments).concat(),
    };
    bounded(text)
}

fn bounded(text: String) -> Option<Value> {
    (text.len() <= LONGEST).then_some(Value::Text(text))
}

/// A function of one integer that gives a text.
pub(super) fn of_integer(function: Function, value: i64) -> Option<Value> {
    Some(Value::Text(match function {
        Function::ToHex => format!("{value:x}"),
        Function::Chr => u32::try_from(value).ok().filter(|code| *code > 0).and_then(char::from_u32)?.to_string(),
        _ => return None,
    }))
}

/// A function whose first argument is a text.
pub(super) fn call(function: Function, text: &str, rest: &[Value]) -> Option<Value> {
    match rest {
        [] => of_text(function, text),
        [Value::Text(other)] => of_texts(function, text, other),
        [Value::BigInt(number)] => match function {
            Function::Substr => Some(Value::Text(slice(text, *number, None)?)),
            Function::Left => Some(Value::Text(text.chars().take(kept(text, *number)).collect())),
            Function::Right => Some(Value::Text(text.chars().skip(length(text) - kept(text, *number)).collect())),
            Function::Lpad | Function::Rpad => padded(function, text, *number, " "),
            Function::Repeat => {
                let times = usize::try_from(*number).unwrap_or(0);
                (text.len().checked_mul(times)? <= LONGEST).then(|| Value::Text(text.repeat(times)))
            }
            _ => None,
        },
        [Value::BigInt(start), Value::BigInt(length)] => Some(Value::Text(slice(text, *start, Some(*length))?)),
        [Value::BigInt(length), Value::Text(fill)] => padded(function, text, *length, fill),
        [Value::Text(delimiter), Value::BigInt(field)] => Some(Value::Text(piece(text, delimiter, *field)?.to_owned())),
        [Value::Text(from), Value::Text(to)] => match function {
            Function::Replace if from.is_empty() => Some(Value::Text(text.to_owned())),
            Function::Replace => bounded(text.replace(from.as_str(), to)),
            Function::Translate => {
                let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
                let one = |c: char| from.iter().position(|candidate| *candidate == c).map_or(Some(c), |place| to.get(place).copied());
                Some(Value::Text(text.chars().filter_map(one).collect()))
            }
            Function::RegexpReplace => bounded(matcher(from)?.replace(text, to.as_str()).into_owned()),
            _ => None,
        },
        _ => None,
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn count(number: usize) -> Option<Value> {
    i64::try_from(number).ok().map(Value::BigInt)
}

fn of_text(function: Function, text: &str) -> Option<Value> {
    Some(Value::Text(match function {
        Function::Lower => text.to_lowercase(),
        Function::Upper => text.to_uppercase(),
        Function::Initcap => initcap(text),
        Function::Trim => text.trim_matches(' ').to_owned(),
        Function::Ltrim => text.trim_start_matches(' ').to_owned(),
        Function::Rtrim => text.trim_end_matches(' ').to_owned(),
        Function::Reverse => text.chars().rev().collect(),
        Function::Md5 => Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect(),
        Function::ConcatAll => text.to_owned(),
        Function::Length => return count(length(text)),
        Function::OctetLength => return count(text.len()),
        Function::Ascii => return Some(Value::BigInt(text.chars().next().map_or(0, |c| i64::from(u32::from(c))))),
        _ => return None,
    }))
}

fn of_texts(function: Function, text: &str, other: &str) -> Option<Value> {
    let characters: Vec<char> = other.chars().collect();
    Some(match function {
        Function::Concat => return bounded(format!("{text}{other}")),
        Function::Trim => Value::Text(text.trim_matches(characters.as_slice()).to_owned()),
        Function::Ltrim => Value::Text(text.trim_start_matches(characters.as_slice()).to_owned()),
        Function::Rtrim => Value::Text(text.trim_end_matches(characters.as_slice()).to_owned()),
        Function::Strpos => return count(text.find(other).map_or(0, |place| text.get(..place).map_or(0, length) + 1)),
        Function::StartsWith => Value::Boolean(text.starts_with(other)),
        Function::Like => Value::Boolean(like(text, other)?),
        Function::Ilike => Value::Boolean(like(&text.to_lowercase(), &other.to_lowercase())?),
        Function::RegexpLike => Value::Boolean(matcher(other)?.is_match(text)),
        Function::RegexpSubstr => matcher(other)?.find(text).map_or(Value::Null, |found| Value::Text(found.as_str().to_owned())),
        _ => return None,
    })
}

fn initcap(text: &str) -> String {
    let mut inside = false;
    let mut result = String::with_capacity(text.len());
    for c in text.chars() {
        if inside {
            result.extend(c.to_lowercase())
        } else {
            result.extend(c.to_uppercase())
        }
        inside = c.is_alphanumeric();
    }
    result
}

/// How many characters `left` and `right` keep: all but so many when negative.
fn kept(text: &str, number: i64) -> usize {
    let all = length(text);
    let size = usize::try_from(number.unsigned_abs()).unwrap_or(usize::MAX);
    if number >= 0 { size.min(all) } else { all.saturating_sub(size) }
}

/// From a character, counted from 1; what lies before the first counts as length.
fn slice(text: &str, start: i64, length: Option<i64>) -> Option<String> {
    let first = i128::from(start) - 1;
    let end = match length {
        Some(length) if length < 0 => return None,
        Some(length) => first + i128::from(length),
        None => i128::MAX,
    };
    let (from, to) = (usize::try_from(first.max(0)).ok()?, usize::try_from(end.clamp(0, i128::from(u32::MAX))).ok()?);
    Some(text.chars().skip(from).take(to.saturating_sub(from)).collect())
}

fn padded(function: Function, text: &str, wanted: i64, fill: &str) -> Option<Value> {
    let wanted = usize::try_from(wanted).unwrap_or(0);
    if wanted > LONGEST / 4 {
        return None;
    }
    let missing = wanted.saturating_sub(length(text));
    let cut: String = text.chars().take(wanted).collect();
    let padding: String = fill.chars().cycle().take(if fill.is_empty() { 0 } else { missing }).collect();
    Some(Value::Text(if function == Function::Lpad { padding + &cut } else { cut + &padding }))
}

/// PostgreSQL's `split_part`: an empty delimiter leaves the text whole; beyond the last piece it is ''; 0 is an error.
pub(crate) fn piece<'a>(text: &'a str, delimiter: &str, field: i64) -> Option<&'a str> {
    let distance = usize::try_from(field.unsigned_abs()).ok()?.checked_sub(1)?;
    if delimiter.is_empty() {
        return Some(if distance == 0 { text } else { "" });
    }
    let found = if field > 0 { text.split(delimiter).nth(distance) } else { text.rsplit(delimiter).nth(distance) };
    Some(found.unwrap_or(""))
}

/// LIKE, in time linear in the text for each `%`; nothing where the pattern ends in its escape.
fn like(text: &str, pattern: &str) -> Option<bool> {
    enum Part {
        One(char),
        Any,
        Rest,
    }
    let mut parts = Vec::new();
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        parts.push(match c {
            '%' => Part::Rest,
            '_' => Part::Any,
            '\\' => Part::One(characters.next()?),
            c => Part::One(c),
        });
    }
    let text: Vec<char> = text.chars().collect();
    // Greedy: only the last % needs to be tried again.
    let (mut at, mut part) = (0, 0);
    let mut again: Option<(usize, usize)> = None;
    while at < text.len() {
        match (parts.get(part), text.get(at)) {
            (Some(Part::Rest), _) => {
                again = Some((part, at));
                part += 1;
                continue;
            }
            (Some(Part::Any), _) => {}
            (Some(Part::One(wanted)), Some(found)) if wanted == found => {}
            _ => {
                let Some((rest, tried)) = again else { return Some(false) };
                again = Some((rest, tried + 1));
                (part, at) = (rest + 1, tried + 1);
                continue;
            }
        }
        (at, part) = (at + 1, part + 1);
    }
    Some(parts.iter().skip(part).all(|part| matches!(part, Part::Rest)))
}

/// A compiled pattern; definitions have few, and each is a constant.
fn matcher(pattern: &str) -> Option<Regex> {
    const KNOWN: usize = 64;
    thread_local! { static MATCHERS: RefCell<HashMap<String, Regex>> = RefCell::default(); }
    MATCHERS.with_borrow_mut(|known| {
        if let Some(found) = known.get(pattern) {
            return Some(found.clone());
        }
        let made = Regex::new(pattern).ok()?;
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(pattern.to_owned(), made.clone());
        Some(made)
    })
}

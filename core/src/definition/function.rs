//! The functions and operators of definitions: one table, from which typing, `docs/functions.md` and the examples that are
//! tested come. Their meaning is PostgreSQL's; where it is not, the entry says so.

use serde::{Deserialize, Serialize};

/// The type of an argument or of a result in a [`Signature`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// BOOLEAN.
    Boolean,
    /// BIGINT.
    BigInt,
    /// DOUBLE; integers and decimals are converted.
    Double,
    /// TEXT.
    Text,
    /// DATE.
    Date,
    /// TIMESTAMP; days are converted.
    Timestamp,
    /// BIGINT, DECIMAL or DOUBLE: all such arguments get the widest of their types, and so does the result.
    Number,
    /// Any type: all such arguments get one, and so does the result.
    Any,
}

/// What one form of a function takes and gives.
#[derive(Clone, Copy, Debug)]
pub struct Signature {
    /// The arguments.
    pub takes: &'static [Kind],
    /// Whether the last one may be repeated.
    pub variadic: bool,
    /// The result.
    pub gives: Kind,
}

/// A function's part of the documents.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The function.
    pub function: Function,
    /// Its name in SQL, or its sign.
    pub name: &'static str,
    /// Its forms; none for operators whose typing is special.
    pub signatures: &'static [Signature],
    /// What it gives.
    pub doc: &'static str,
    /// Expressions and the literals that they equal, as in PostgreSQL.
    pub examples: &'static [(&'static str, &'static str)],
    /// Where it is not as in PostgreSQL, and why.
    pub deviation: Option<&'static str>,
    /// The headline that it is listed under.
    pub chapter: &'static str,
}

macro_rules! functions {
    ($($chapter:literal: $($variant:ident = $name:literal $([$($take:ident),* $(; $variadic:ident)?] -> $give:ident),*, $doc:literal
        $(, $example:literal = $expected:literal)* $(, unlike $deviation:literal)?;)*)*) => {
        /// Functions and operators.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Function {
            $($(#[doc = $doc] $variant,)*)*
        }

        impl Function {
            /// Their table.
            pub const TABLE: &[Entry] = &[$($(Entry {
                function: Self::$variant,
                name: $name,
                signatures: &[$(Signature { takes: &[$(Kind::$take),*], variadic: functions!(@variadic $($variadic)?), gives: Kind::$give }),*],
                doc: $doc,
                examples: &[$(($example, $expected)),*],
                deviation: functions!(@deviation $($deviation)?),
                chapter: $chapter,
            }),*),*];

            /// Its name in SQL, or its sign.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $($(Self::$variant => $name,)*)* }
            }
        }
    };
    (@variadic $repeated:ident) => { true };
    (@variadic) => { false };
    (@deviation $deviation:literal) => { Some($deviation) };
    (@deviation) => { None };
}

functions! {
    "Arithmetic":
    Add = "+", "The sum of two numbers; of a day and a number of days.", "2 + 3" = "5", "DATE '2024-02-28' + 1" = "DATE '2024-02-29'";
    Subtract = "-", "The difference of two numbers; of a day and a number of days; the days between two days.",
        "2 - 3" = "-1", "DATE '2024-03-01' - DATE '2024-02-01'" = "29";
    Multiply = "*", "The product.", "-4 * 3" = "-12",
        unlike "a DOUBLE that overflows is Infinity, one that underflows is 0, here and with + and -: errors there, which would reject a record for its size";
    Divide = "/", "The quotient; of integers truncated towards zero; by zero it cannot be computed.", "-7 / 2" = "-3", "7.5 / 2" = "3.75",
        unlike "a DECIMAL divided by anything is DOUBLE: PostgreSQL's numeric has digits without a limit";
    Modulo = "%", "The remainder, with the sign of the dividend.", "-7 % 2" = "-1";
    "Comparison":
    Equal = "=" [Any, Any] -> Boolean, "Equal.", "'a' = 'A'" = "FALSE";
    NotEqual = "<>" [Any, Any] -> Boolean, "Not equal.", "1 <> 2" = "TRUE";
    Less = "<" [Any, Any] -> Boolean, "Less than; texts by their bytes.", "'a' < 'ab'" = "TRUE",
        unlike "texts are ordered by their bytes, as in PostgreSQL with COLLATE \"C\": a locale's order differs between machines";
    LessOrEqual = "<=" [Any, Any] -> Boolean, "Less than or equal.", "2 <= 2" = "TRUE";
    Greater = ">" [Any, Any] -> Boolean, "Greater than.", "2 > 2" = "FALSE";
    GreaterOrEqual = ">=" [Any, Any] -> Boolean, "Greater than or equal.", "2 >= 2" = "TRUE";
    IsDistinctFrom = "is distinct from" [Any, Any] -> Boolean, "Different, NULL being a value like any other.", "NULL IS DISTINCT FROM 1" = "TRUE";
    IsNull = "is null" [Any] -> Boolean, "Whether it is NULL.", "NULL IS NULL" = "TRUE";
    "Logic":
    And = "and" [Boolean, Boolean] -> Boolean, "Three-valued AND.", "TRUE AND FALSE" = "FALSE", "(NULL AND TRUE) IS NULL" = "TRUE";
    Or = "or" [Boolean, Boolean] -> Boolean, "Three-valued OR.", "NULL OR TRUE" = "TRUE";
    Not = "not" [Boolean] -> Boolean, "Three-valued NOT.", "NOT TRUE" = "FALSE";
    Coalesce = "coalesce" [Any; variadic] -> Any, "The first argument that is not NULL.", "coalesce(NULL, 2, 3)" = "2";
    NullIf = "nullif" [Any, Any] -> Any, "NULL if both are equal, else the first.", "nullif(1, 1) IS NULL" = "TRUE", "nullif('a', '')" = "'a'";
    Greatest = "greatest" [Any; variadic] -> Any, "The largest argument; NULLs are left out.", "greatest(1, NULL, 3)" = "3";
    Least = "least" [Any; variadic] -> Any, "The smallest argument; NULLs are left out.", "least(1, NULL, 3)" = "1";
    "Numbers":
    Abs = "abs" [Number] -> Number, "The absolute value.", "abs(-3)" = "3";
    Sign = "sign" [Double] -> Double, "-1, 0 or 1.", "sign(-2.5)" = "-1.0";
    Ceil = "ceil" [Double] -> Double, "The nearest whole number that is not smaller.", "ceil(-1.5)" = "-1.0";
    Floor = "floor" [Double] -> Double, "The nearest whole number that is not larger.", "floor(-1.5)" = "-2.0";
    Trunc = "trunc" [Double] -> Double, "Without what is behind the point.", "trunc(-1.5)" = "-1.0";
    Round = "round" [Double] -> Double, [Double, BigInt] -> Double, "The nearest whole number, halves to the even one; or with that many digits behind the point.",
        "round(2.5)" = "2.0", "round(1234.567, 2)" = "1234.57", "round(1234.567, -2)" = "1200.0",
        unlike "numbers with a point are DOUBLE here: halves go to the even neighbour also with a number of digits, which PostgreSQL has for numeric alone";
    Mod = "mod" [BigInt, BigInt] -> BigInt, "The remainder, with the sign of the first.", "mod(-7, 2)" = "-1";
    Gcd = "gcd" [BigInt, BigInt] -> BigInt, "The greatest common divisor.", "gcd(12, 18)" = "6";
    Lcm = "lcm" [BigInt, BigInt] -> BigInt, "The least common multiple.", "lcm(4, 6)" = "12";
    Power = "power" [Double, Double] -> Double, "The first to the power of the second.", "power(2, 10)" = "1024.0";
    Sqrt = "sqrt" [Double] -> Double, "The square root.", "sqrt(2.25)" = "1.5";
    Cbrt = "cbrt" [Double] -> Double, "The cube root.", "cbrt(27)" = "3.0";
    Exp = "exp" [Double] -> Double, "e to that power.", "exp(0)" = "1.0";
    Ln = "ln" [Double] -> Double, "The natural logarithm.", "ln(1)" = "0.0";
    Log10 = "log10" [Double] -> Double, "The logarithm to base 10.", "log10(1000)" = "3.0";
    Degrees = "degrees" [Double] -> Double, "Radians as degrees.", "degrees(0)" = "0.0";
    Radians = "radians" [Double] -> Double, "Degrees as radians.", "radians(0)" = "0.0";
    Sin = "sin" [Double] -> Double, "The sine of radians.", "sin(0)" = "0.0";
    Cos = "cos" [Double] -> Double, "The cosine of radians.", "cos(0)" = "1.0";
    Tan = "tan" [Double] -> Double, "The tangent of radians.", "tan(0)" = "0.0";
    Asin = "asin" [Double] -> Double, "The angle with that sine, in radians.", "asin(0)" = "0.0";
    Acos = "acos" [Double] -> Double, "The angle with that cosine, in radians.", "acos(1)" = "0.0";
    Atan = "atan" [Double] -> Double, "The angle with that tangent, in radians.", "atan(0)" = "0.0";
    Atan2 = "atan2" [Double, Double] -> Double, "The angle of y and x, in radians.", "atan2(0, 1)" = "0.0";
    WidthBucket = "width_bucket" [Double, Double, Double, BigInt] -> BigInt,
        "The number of the bucket that the first falls in, of so many equal ones between the second and the third; 0 below, one more above.",
        "width_bucket(5.35, 0.024, 10.06, 5)" = "3";
    "Texts":
    Concat = "||" [Text, Text] -> Text, "One after the other; NULL if one is.", "'a' || 'b'" = "'ab'";
    ConcatAll = "concat" [Text; variadic] -> Text, "One after the other; NULLs are left out.", "concat('a', NULL, 'b')" = "'ab'";
    ConcatWith = "concat_ws" [Text, Text; variadic] -> Text, "The others with the first between them; NULLs are left out.", "concat_ws('-', 'a', NULL, 'b')" = "'a-b'";
    Lower = "lower" [Text] -> Text, "In lower case.", "lower('ÄB')" = "'äb'";
    Upper = "upper" [Text] -> Text, "In upper case.", "upper('äb')" = "'ÄB'",
        unlike "by Unicode's full mapping ('ß' becomes 'SS', as in ICU), not letter by letter as the C library's locales do";
    Initcap = "initcap" [Text] -> Text, "Each word's first letter in upper case, the others in lower case.", "initcap('hi THOMAS')" = "'Hi Thomas'";
    Trim = "trim" [Text] -> Text, [Text, Text] -> Text, "Without spaces, or those characters, at both ends.", "trim('  a ')" = "'a'", "trim(BOTH 'xy' FROM 'xyay')" = "'a'";
    Ltrim = "ltrim" [Text] -> Text, [Text, Text] -> Text, "Without spaces, or those characters, at the start.", "ltrim('  a ')" = "'a '", "ltrim('xxa', 'x')" = "'a'";
    Rtrim = "rtrim" [Text] -> Text, [Text, Text] -> Text, "Without spaces, or those characters, at the end.", "rtrim(' a  ')" = "' a'", "rtrim('axx', 'x')" = "'a'";
    Length = "length" [Text] -> BigInt, "The number of characters.", "length('äb')" = "2";
    OctetLength = "octet_length" [Text] -> BigInt, "The number of bytes in UTF-8.", "octet_length('äb')" = "3";
    Substr = "substr" [Text, BigInt] -> Text, [Text, BigInt, BigInt] -> Text, "From that character, counted from 1; so many at most.",
        "substr('alphabet', 3)" = "'phabet'", "substring('alphabet' FROM 3 FOR 2)" = "'ph'";
    Left = "left" [Text, BigInt] -> Text, "The first so many characters; all but the last ones when negative.", "left('abcde', 2)" = "'ab'", "left('abcde', -2)" = "'abc'";
    Right = "right" [Text, BigInt] -> Text, "The last so many characters; all but the first ones when negative.", "right('abcde', 2)" = "'de'";
    Lpad = "lpad" [Text, BigInt] -> Text, [Text, BigInt, Text] -> Text, "Filled at the start to that length, or cut to it at the end.", "lpad('hi', 5, 'xy')" = "'xyxhi'";
    Rpad = "rpad" [Text, BigInt] -> Text, [Text, BigInt, Text] -> Text, "Filled at the end to that length, or cut to it.", "rpad('hi', 4)" = "'hi  '";
    Repeat = "repeat" [Text, BigInt] -> Text, "So many times; over 1 MiB it cannot be computed.", "repeat('Pg', 3)" = "'PgPgPg'";
    Replace = "replace" [Text, Text, Text] -> Text, "Each occurrence of the second replaced by the third.", "replace('abcabc', 'b', 'x')" = "'axcaxc'";
    Translate = "translate" [Text, Text, Text] -> Text, "Each character of the second replaced by the one at its place in the third, or left out.", "translate('12345', '143', 'ax')" = "'a2x5'";
    Reverse = "reverse" [Text] -> Text, "Its characters from last to first.", "reverse('abc')" = "'cba'";
    Strpos = "strpos" [Text, Text] -> BigInt, "Where the second begins in the first, from 1; 0 without.", "strpos('high', 'ig')" = "2", "position('ig' IN 'high')" = "2";
    StartsWith = "starts_with" [Text, Text] -> Boolean, "Whether the first begins with the second.", "starts_with('alphabet', 'alph')" = "TRUE";
    SplitPart = "split_part" [Text, Text, BigInt] -> Text, "The n-th piece from 1, from the end when negative, '' beyond.", "split_part('a|b|c', '|', 2)" = "'b'", "split_part('a|b|c', '|', -1)" = "'c'";
    Like = "like" [Text, Text] -> Boolean, "Whether it matches a pattern: % is any text, _ one character, \\ escapes.", "'abc' LIKE 'a%'" = "TRUE", "'abc' LIKE '_b'" = "FALSE";
    Ilike = "ilike" [Text, Text] -> Boolean, "LIKE without regard to case.", "'ABC' ILIKE 'a%'" = "TRUE";
    RegexpLike = "regexp_like" [Text, Text] -> Boolean, "Whether a regular expression matches somewhere.", "regexp_like('Thomas', '.*thomas')" = "FALSE",
        unlike "regular expressions are those of Rust's regex library: linear time, so neither backreferences nor look-around";
    RegexpReplace = "regexp_replace" [Text, Text, Text] -> Text, "The first match replaced; $1 is a group.", "regexp_replace('Thomas', '.[mN]a.', 'M')" = "'ThM'",
        unlike "a group is $1 in the replacement, not \\1";
    RegexpSubstr = "regexp_substr" [Text, Text] -> Text, "The first match; NULL without.", "regexp_substr('foobar', 'o+')" = "'oo'";
    Ascii = "ascii" [Text] -> BigInt, "The code point of the first character; 0 of ''.", "ascii('x')" = "120";
    Chr = "chr" [BigInt] -> Text, "The character with that code point.", "chr(65)" = "'A'";
    Md5 = "md5" [Text] -> Text, "The MD5 hash, in hexadecimal digits.", "md5('abc')" = "'900150983cd24fb0d6963f7d28e17f72'";
    ToHex = "to_hex" [BigInt] -> Text, "In hexadecimal digits, two's complement.", "to_hex(255)" = "'ff'";
    "Times":
    DateTrunc = "date_trunc" [Text, Timestamp] -> Timestamp, "The start of the second, minute, hour, day, week (Monday), month, quarter or year; a view's time bucket.",
        "date_trunc('hour', TIMESTAMP '2024-02-29 13:45:10')" = "TIMESTAMP '2024-02-29 13:00:00'";
    DateBin = "date_bin" [BigInt, Timestamp, Timestamp] -> Timestamp, "The start of the interval that it falls in, counted from an origin; an interval of days or less.",
        "date_bin(INTERVAL '15 minutes', TIMESTAMP '2024-02-29 13:44:10', TIMESTAMP '2024-01-01 00:00:00')" = "TIMESTAMP '2024-02-29 13:30:00'";
    Extract = "extract" [Text, Timestamp] -> BigInt,
        "A field of a time: century, decade, year, isoyear, quarter, month, week (ISO), day, doy, dow (0 = Sunday), isodow (7 = Sunday), hour, minute, second, millisecond, microsecond, epoch.",
        "extract(dow FROM TIMESTAMP '2024-02-29 13:45:10')" = "4", "extract(epoch FROM TIMESTAMP '1970-01-02 00:00:00')" = "86400",
        unlike "BIGINT, where PostgreSQL gives numeric: second and epoch are whole, millisecond counts from the start of the minute as there";
    ToTimestamp = "to_timestamp" [Double] -> Timestamp, "The time so many seconds after 1970.", "to_timestamp(1.5)" = "TIMESTAMP '1970-01-01 00:00:01.5'";
    MakeDate = "make_date" [BigInt, BigInt, BigInt] -> Date, "The day of a year, a month and a day.", "make_date(2024, 2, 29)" = "DATE '2024-02-29'";
    MakeTimestamp = "make_timestamp" [BigInt, BigInt, BigInt, BigInt, BigInt, Double] -> Timestamp, "The time of year, month, day, hour, minute, second.",
        "make_timestamp(2024, 2, 29, 13, 45, 10.5)" = "TIMESTAMP '2024-02-29 13:45:10.5'";
    AddInterval = "+ interval" [Timestamp, BigInt, BigInt] -> Timestamp, "A time later by an interval; at the end of a month the day is cut to what the month has.",
        "TIMESTAMP '2024-01-31 00:00:00' + INTERVAL '1 month'" = "TIMESTAMP '2024-02-29 00:00:00'", "TIMESTAMP '2024-01-31 12:00:00' - INTERVAL '90 minutes'" = "TIMESTAMP '2024-01-31 10:30:00'";
}

/// Other names of functions.
const ALIASES: [(&str, Function); 8] = [
    ("btrim", Function::Trim),
    ("ceiling", Function::Ceil),
    ("char_length", Function::Length),
    ("character_length", Function::Length),
    ("substring", Function::Substr),
    ("pow", Function::Power),
    ("log", Function::Log10),
    ("date_part", Function::Extract),
];

impl Entry {
    /// Whether it is called by a name, with its arguments in parentheses.
    #[must_use]
    pub fn is_called(&self) -> bool {
        !self.signatures.is_empty() && self.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !OPERATORS.contains(&self.function)
    }
}

const OPERATORS: [Function; 5] = [Function::And, Function::Or, Function::Not, Function::Like, Function::Ilike];

impl Function {
    /// Its part of the documents.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "a test says that the table is in the order of the functions")]
    pub fn entry(self) -> &'static Entry {
        &Self::TABLE[self as usize]
    }

    /// The function that is called by that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let alias = ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, function)| *function);
        alias.or_else(|| Self::TABLE.iter().find(|entry| entry.is_called() && entry.name == name).map(|entry| entry.function))
    }

    /// The names by which functions are called.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let own = Self::TABLE.iter().filter(|entry| entry.is_called()).map(|entry| entry.name);
        own.chain(ALIASES.iter().map(|(alias, _)| *alias))
    }
}

/// The table as a page of the documents.
#[must_use]
pub fn markdown() -> String {
    const HEAD: &str = "# Functions\n\nMade from the table in `core/src/definition/function.rs`. The meaning is PostgreSQL's; a test runs every example, and every\nfunction over the same generated rows, in PostgreSQL and here. What differs is said in the last column.";
    let mut lines = vec![HEAD.to_owned()];
    let mut chapter = "";
    for entry in Function::TABLE {
        if entry.chapter != chapter {
            chapter = entry.chapter;
            lines.push(format!("\n## {chapter}\n\n| function | gives | examples | unlike PostgreSQL |\n|---|---|---|---|"));
        }
        let code = |text: &str| format!("`{}`", text.replace('|', "\\|"));
        let forms: Vec<String> = entry.signatures.iter().filter(|_| entry.is_called()).map(|signature| code(&form(entry.name, signature))).collect();
        let form = if forms.is_empty() { code(entry.name) } else { forms.join("<br>") };
        let examples: Vec<String> = entry.examples.iter().map(|(example, value)| format!("{} → {}", code(example), code(value))).collect();
        lines.push(format!("| {form} | {} | {} | {} |", entry.doc, examples.join("<br>"), entry.deviation.unwrap_or_default()));
    }
    let aliases: Vec<String> = ALIASES.iter().map(|(alias, function)| format!("`{alias}` = `{}`", function.name())).collect();
    lines.push(format!("\nOther names: {}.\n", aliases.join(", ")));
    lines.join("\n")
}

pub(super) fn form(name: &str, signature: &Signature) -> String {
    let kinds: Vec<String> = signature.takes.iter().map(|kind| format!("{kind:?}").to_lowercase()).collect();
    format!("{name}({}{})", kinds.join(", "), if signature.variadic { ", …" } else { "" })
}

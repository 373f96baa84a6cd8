//! The functions of the language: names, how they are called, types.

use crate::schema::Ty;

/// A function, whatever the types of its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[rustfmt::skip]
pub(crate) enum Fun {
    Now,
    Size, Contains, StartsWith, EndsWith, Matches,
    CharAt, IndexOf, LastIndexOf, Join, LowerAscii, UpperAscii, ToLower, ToUpper, Replace, Split, Substring, Trim, Reverse,
    Format, Quote,
    ToInt, ToUint, ToDouble, ToString, ToBytes, ToBool, TypeOf, Dyn, ToTimestamp, ToDuration,
    FullYear, Month, DayOfMonth, Date, DayOfWeek, DayOfYear, Hours, Minutes, Seconds, Milliseconds,
    HasAny, HasAll, Min, Max,
    Base64Encode, Base64Decode,
    Greatest, Least, Abs, Ceil, Floor, Round, Trunc, Sign, IsNan, IsInf, IsFinite, Sqrt,
    BitAnd, BitOr, BitXor, BitNot, BitShiftLeft, BitShiftRight,
    JsonParse, JsonMarshal,
    IsIp, IsIpv4, IsIpv6, IsPrivateIp, IsIpInRange,
    IsWeekday, IsWeekend, IsWeekdayInTz, IsWeekendInTz,
}

/// What an argument may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[rustfmt::skip]
pub(crate) enum Param { Any, Int, UInt, Double, Number, Str, Bytes, Timestamp, Duration, List, Sized, Bool, Json }

impl Param {
    pub(crate) fn accepts(self, ty: &Ty) -> bool {
        match self {
            _ if ty.is_dyn() => true,
            Self::Any | Self::Json => true,
            Self::Bool => *ty == Ty::Bool,
            Self::Int => *ty == Ty::Int,
            Self::UInt => *ty == Ty::UInt,
            Self::Double => *ty == Ty::Double,
            Self::Number => ty.is_number(),
            Self::Str => *ty == Ty::String,
            Self::Bytes => *ty == Ty::Bytes,
            Self::Timestamp => *ty == Ty::Timestamp,
            Self::Duration => *ty == Ty::Duration,
            Self::List => matches!(ty, Ty::List(_)),
            Self::Sized => matches!(ty, Ty::String | Ty::Bytes | Ty::List(_)) || ty.is_map(),
        }
    }
}

/// What a function answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[rustfmt::skip]
pub(crate) enum Answer { Dyn, Bool, Int, UInt, Double, Str, Bytes, Timestamp, Duration, Type, Strings, JsonObject, Element, Same }

impl Answer {
    pub(crate) fn ty(self, args: &[Ty]) -> Ty {
        match self {
            Self::Dyn => Ty::Dyn,
            Self::Bool => Ty::Bool,
            Self::Int => Ty::Int,
            Self::UInt => Ty::UInt,
            Self::Double => Ty::Double,
            Self::Str => Ty::String,
            Self::Bytes => Ty::Bytes,
            Self::Timestamp => Ty::Timestamp,
            Self::Duration => Ty::Duration,
            Self::Type => Ty::Type,
            Self::Strings => Ty::list(Ty::String),
            Self::JsonObject => Ty::map(Ty::Dyn),
            Self::Element => match args.first() {
                Some(Ty::List(of)) => (**of).clone(),
                _ => Ty::Dyn,
            },
            Self::Same => args.first().cloned().unwrap_or(Ty::Dyn),
        }
    }
}

/// One way to call a function.
#[derive(Debug)]
pub(crate) struct Overload {
    pub name: &'static str,
    /// Whether it is `x.f(…)`; then `x` is the first parameter.
    pub member: bool,
    pub params: &'static [Param],
    /// Whether any number of further arguments may follow.
    pub variadic: bool,
    pub answer: Answer,
    pub fun: Fun,
}

const fn member(name: &'static str, params: &'static [Param], answer: Answer, fun: Fun) -> Overload {
    Overload { name, member: true, params, variadic: false, answer, fun }
}

const fn global(name: &'static str, params: &'static [Param], answer: Answer, fun: Fun) -> Overload {
    Overload { name, member: false, params, variadic: false, answer, fun }
}

const fn many(mut overload: Overload) -> Overload {
    overload.variadic = true;
    overload
}

/// Every function except the macros and the operators.
#[rustfmt::skip]
pub(crate) const OVERLOADS: &[Overload] = {
    use Answer as A;
    use Param::{Any, Bool, Bytes, Double, Duration, Int, Json, List, Number, Sized, Str, Timestamp, UInt};
    &[
        global("now", &[], A::Timestamp, Fun::Now),
        global("size", &[Sized], A::Int, Fun::Size),
        member("size", &[Sized], A::Int, Fun::Size),
        member("contains", &[Str, Str], A::Bool, Fun::Contains),
        member("startsWith", &[Str, Str], A::Bool, Fun::StartsWith),
        member("endsWith", &[Str, Str], A::Bool, Fun::EndsWith),
        global("matches", &[Str, Str], A::Bool, Fun::Matches),
        member("matches", &[Str, Str], A::Bool, Fun::Matches),

        member("charAt", &[Str, Int], A::Str, Fun::CharAt),
        member("indexOf", &[Str, Str], A::Int, Fun::IndexOf),
        member("indexOf", &[Str, Str, Int], A::Int, Fun::IndexOf),
        member("lastIndexOf", &[Str, Str], A::Int, Fun::LastIndexOf),
        member("lastIndexOf", &[Str, Str, Int], A::Int, Fun::LastIndexOf),
        member("join", &[List], A::Str, Fun::Join),
        member("join", &[List, Str], A::Str, Fun::Join),
        member("lowerAscii", &[Str], A::Str, Fun::LowerAscii),
        member("upperAscii", &[Str], A::Str, Fun::UpperAscii),
        member("toLower", &[Str], A::Str, Fun::ToLower),
        member("toUpper", &[Str], A::Str, Fun::ToUpper),
        member("replace", &[Str, Str, Str], A::Str, Fun::Replace),
        member("replace", &[Str, Str, Str, Int], A::Str, Fun::Replace),
        member("split", &[Str, Str], A::Strings, Fun::Split),
        member("split", &[Str, Str, Int], A::Strings, Fun::Split),
        member("substring", &[Str, Int], A::Str, Fun::Substring),
        member("substring", &[Str, Int, Int], A::Str, Fun::Substring),
        member("trim", &[Str], A::Str, Fun::Trim),
        member("reverse", &[Str], A::Str, Fun::Reverse),
        member("format", &[Str, List], A::Str, Fun::Format),
        global("strings.quote", &[Str], A::Str, Fun::Quote),

        global("int", &[Number], A::Int, Fun::ToInt),
        global("int", &[Str], A::Int, Fun::ToInt),
        global("int", &[Timestamp], A::Int, Fun::ToInt),
        global("uint", &[Number], A::UInt, Fun::ToUint),
        global("uint", &[Str], A::UInt, Fun::ToUint),
        global("double", &[Number], A::Double, Fun::ToDouble),
        global("double", &[Str], A::Double, Fun::ToDouble),
        global("string", &[Number], A::Str, Fun::ToString),
        global("string", &[Str], A::Str, Fun::ToString),
        global("string", &[Bool], A::Str, Fun::ToString),
        global("string", &[Bytes], A::Str, Fun::ToString),
        global("string", &[Timestamp], A::Str, Fun::ToString),
        global("string", &[Duration], A::Str, Fun::ToString),
        global("bytes", &[Str], A::Bytes, Fun::ToBytes),
        global("bytes", &[Bytes], A::Bytes, Fun::ToBytes),
        global("bool", &[Str], A::Bool, Fun::ToBool),
        global("bool", &[Bool], A::Bool, Fun::ToBool),
        global("type", &[Any], A::Type, Fun::TypeOf),
        global("dyn", &[Any], A::Dyn, Fun::Dyn),
        global("timestamp", &[Str], A::Timestamp, Fun::ToTimestamp),
        global("timestamp", &[Int], A::Timestamp, Fun::ToTimestamp),
        global("timestamp", &[Timestamp], A::Timestamp, Fun::ToTimestamp),
        global("duration", &[Str], A::Duration, Fun::ToDuration),
        global("duration", &[Duration], A::Duration, Fun::ToDuration),

        member("getFullYear", &[Timestamp], A::Int, Fun::FullYear),
        member("getFullYear", &[Timestamp, Str], A::Int, Fun::FullYear),
        member("getMonth", &[Timestamp], A::Int, Fun::Month),
        member("getMonth", &[Timestamp, Str], A::Int, Fun::Month),
        member("getDayOfMonth", &[Timestamp], A::Int, Fun::DayOfMonth),
        member("getDayOfMonth", &[Timestamp, Str], A::Int, Fun::DayOfMonth),
        member("getDate", &[Timestamp], A::Int, Fun::Date),
        member("getDate", &[Timestamp, Str], A::Int, Fun::Date),
        member("getDayOfWeek", &[Timestamp], A::Int, Fun::DayOfWeek),
        member("getDayOfWeek", &[Timestamp, Str], A::Int, Fun::DayOfWeek),
        member("getDayOfYear", &[Timestamp], A::Int, Fun::DayOfYear),
        member("getDayOfYear", &[Timestamp, Str], A::Int, Fun::DayOfYear),
        member("getHours", &[Timestamp], A::Int, Fun::Hours),
        member("getHours", &[Timestamp, Str], A::Int, Fun::Hours),
        member("getHours", &[Duration], A::Int, Fun::Hours),
        member("getMinutes", &[Timestamp], A::Int, Fun::Minutes),
        member("getMinutes", &[Timestamp, Str], A::Int, Fun::Minutes),
        member("getMinutes", &[Duration], A::Int, Fun::Minutes),
        member("getSeconds", &[Timestamp], A::Int, Fun::Seconds),
        member("getSeconds", &[Timestamp, Str], A::Int, Fun::Seconds),
        member("getSeconds", &[Duration], A::Int, Fun::Seconds),
        member("getMilliseconds", &[Timestamp], A::Int, Fun::Milliseconds),
        member("getMilliseconds", &[Timestamp, Str], A::Int, Fun::Milliseconds),
        member("getMilliseconds", &[Duration], A::Int, Fun::Milliseconds),

        many(member("hasAny", &[List, Any], A::Bool, Fun::HasAny)),
        many(member("hasAll", &[List, Any], A::Bool, Fun::HasAll)),
        member("min", &[List], A::Element, Fun::Min),
        member("max", &[List], A::Element, Fun::Max),

        global("base64.encode", &[Bytes], A::Str, Fun::Base64Encode),
        global("base64.decode", &[Str], A::Bytes, Fun::Base64Decode),

        many(global("math.greatest", &[Number], A::Dyn, Fun::Greatest)),
        global("math.greatest", &[List], A::Element, Fun::Greatest),
        many(global("math.least", &[Number], A::Dyn, Fun::Least)),
        global("math.least", &[List], A::Element, Fun::Least),
        global("math.abs", &[Number], A::Same, Fun::Abs),
        global("math.ceil", &[Double], A::Double, Fun::Ceil),
        global("math.floor", &[Double], A::Double, Fun::Floor),
        global("math.round", &[Double], A::Double, Fun::Round),
        global("math.trunc", &[Double], A::Double, Fun::Trunc),
        global("math.sign", &[Number], A::Same, Fun::Sign),
        global("math.isNaN", &[Double], A::Bool, Fun::IsNan),
        global("math.isInf", &[Double], A::Bool, Fun::IsInf),
        global("math.isFinite", &[Double], A::Bool, Fun::IsFinite),
        global("math.sqrt", &[Number], A::Double, Fun::Sqrt),
        global("math.bitAnd", &[Int, Int], A::Int, Fun::BitAnd),
        global("math.bitAnd", &[UInt, UInt], A::UInt, Fun::BitAnd),
        global("math.bitOr", &[Int, Int], A::Int, Fun::BitOr),
        global("math.bitOr", &[UInt, UInt], A::UInt, Fun::BitOr),
        global("math.bitXor", &[Int, Int], A::Int, Fun::BitXor),
        global("math.bitXor", &[UInt, UInt], A::UInt, Fun::BitXor),
        global("math.bitNot", &[Int], A::Int, Fun::BitNot),
        global("math.bitNot", &[UInt], A::UInt, Fun::BitNot),
        global("math.bitShiftLeft", &[Int, Int], A::Int, Fun::BitShiftLeft),
        global("math.bitShiftLeft", &[UInt, Int], A::UInt, Fun::BitShiftLeft),
        global("math.bitShiftRight", &[Int, Int], A::Int, Fun::BitShiftRight),
        global("math.bitShiftRight", &[UInt, Int], A::UInt, Fun::BitShiftRight),

        global("json.parse", &[Str], A::JsonObject, Fun::JsonParse),
        global("json.marshal", &[Json], A::Str, Fun::JsonMarshal),

        global("net.isIP", &[Str], A::Bool, Fun::IsIp),
        global("net.isIPv4", &[Str], A::Bool, Fun::IsIpv4),
        global("net.isIPv6", &[Str], A::Bool, Fun::IsIpv6),
        global("net.isPrivateIP", &[Str], A::Bool, Fun::IsPrivateIp),
        global("net.isIPInRange", &[Str, Str], A::Bool, Fun::IsIpInRange),

        global("time.isWeekday", &[Timestamp], A::Bool, Fun::IsWeekday),
        global("time.isWeekend", &[Timestamp], A::Bool, Fun::IsWeekend),
        global("time.isWeekdayInTZ", &[Timestamp, Str], A::Bool, Fun::IsWeekdayInTz),
        global("time.isWeekendInTZ", &[Timestamp, Str], A::Bool, Fun::IsWeekendInTz),
    ]
};

/// First parts of function names.
pub(crate) const NAMESPACES: &[&str] = &["base64", "cel", "json", "math", "net", "strings", "time"];

/// Macros, for suggestions.
pub(crate) const MACROS: &[&str] = &["has", "all", "exists", "exists_one", "map", "filter", "cel.bind"];

impl Fun {
    /// Whether a second argument, if there is one, is a time zone.
    pub(crate) fn has_zone(self) -> bool {
        self.reads_calendar() || matches!(self, Fun::IsWeekdayInTz | Fun::IsWeekendInTz)
    }

    /// Whether it answers a part of the calendar or of the clock.
    pub(crate) fn reads_calendar(self) -> bool {
        use Fun::{Date, DayOfMonth, DayOfWeek, DayOfYear, FullYear, Hours, Milliseconds, Minutes, Month, Seconds};
        matches!(
            self,
            FullYear | Month | DayOfMonth | Date | DayOfWeek | DayOfYear | Hours | Minutes | Seconds | Milliseconds
        )
    }
}

impl Fun {
    /// As policies write it.
    pub(crate) fn name(self) -> &'static str {
        OVERLOADS.iter().find(|overload| overload.fun == self).map_or("dyn", |overload| overload.name)
    }
}

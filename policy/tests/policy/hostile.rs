//! Texts and inputs made to hurt.

use std::time::{Duration, Instant};

use octelium_policy::{Budget, EvalError, Expression};

use crate::support::{World, world};

/// Much more than any of it takes on a slow machine in a debug build, and much less than an attack needs.
const FAST: Duration = Duration::from_secs(10);

/// Compiles and, if that works, evaluates on a small stack; both must end soon.
fn survive(text: &str) -> Option<Result<octelium_policy::Value, EvalError>> {
    let begin = Instant::now();
    let result = Expression::compile(text, "at").ok().map(|expression| {
        let world: World = world();
        let small = std::thread::Builder::new().stack_size(1 << 20);
        let run = move || expression.evaluate(&world.context(), None, &mut Budget::new());
        small.spawn(run).unwrap().join().unwrap()
    });
    let start: String = text.chars().take(40).collect();
    assert!(begin.elapsed() < FAST, "{start}… took {:?}", begin.elapsed());
    result
}

#[test]
fn deep_texts_are_refused_or_evaluated() {
    let repeat =
        |open: &str, middle: &str, close: &str, times: usize| open.repeat(times) + middle + &close.repeat(times);
    for times in [10, 60, 63, 64, 100, 1000, 3000] {
        for (open, middle, close) in [
            ("(", "1", ")"),
            ("[", "1", "]"),
            ("{'a':", "1", "}"),
            ("size([", "1", "])"),
            ("-(", "1", ")"),
            ("!(", "true", ")"),
            ("true ? ", "1", " : 2"),
            ("", "1", "+1"),
            ("1+", "1", ""),
            ("", "ctx", ".a"),
            ("", "ctx", "[0]"),
            ("", "'a'", ".trim()"),
            ("!", "true", ""),
            ("-", "1", ""),
            ("true?1:", "1", ""),
            ("[1].map(x, ", "1", ")"),
            ("cel.bind(x, ", "1", ", 1)"),
            ("cel.bind(x, 1, ", "x", ")"),
            ("has(", "ctx.a", ")"),
        ] {
            let text = repeat(open, middle, close, times);
            if text.len() <= 10_000 {
                survive(&text);
            }
        }
    }
}

#[test]
fn the_deepest_admitted_tree_fits_a_small_stack() {
    let text = format!("{}1{}", "(1+".repeat(58), ")".repeat(58));
    assert_eq!(survive(&text), Some(Ok(octelium_policy::Value::Int(59))));
    let text = format!("{}1{}", "[".repeat(60), "]".repeat(60));
    assert!(matches!(survive(&text), Some(Ok(_))));
    let text = format!("[1].map(x, x{})[0]", "+x".repeat(110));
    assert_eq!(survive(&text), Some(Ok(octelium_policy::Value::Int(111))));
    let text = format!("[true].map(x, {}x{})[0]", "!(".repeat(45), ")".repeat(45));
    assert_eq!(survive(&text), Some(Ok(octelium_policy::Value::Bool(false))));
}

#[test]
fn ten_thousand_bytes_are_compiled_soon() {
    for text in [
        ["a"; 2500].join("&&"),
        ["1==1"; 1600].join("||"),
        ["ctx.user.spec.email=='x'"; 384].join("||"),
        format!("[{}]", ["1"; 4900].join(",")),
        format!("[{}]", ["1-1"; 2400].join(",")),
        format!("'{}'.size() > 1", "x".repeat(9900)),
        "a,".repeat(4999),
        "(".repeat(9999),
        "?".repeat(9999),
        "\"".repeat(9999),
        "a ".repeat(4999),
        "1.".repeat(4999),
        "[{(".repeat(3333),
        "ctx.usr||".repeat(1100) + "true",
        "!a||".repeat(2499) + "a",
        "a in b||".repeat(1249) + "a",
        "f(".repeat(60) + &"1,".repeat(4000) + "1" + &")".repeat(60),
    ] {
        assert!(text.len() <= 10_000);
        survive(&text);
    }
}

/// L-20
#[test]
fn ten_thousand_bytes_are_accepted_and_one_more_is_not() {
    let text = |length: usize| format!("'{}' == ''", "x".repeat(length - 8));
    assert!(Expression::compile(&text(10_000), "at").is_ok());
    let errors = Expression::compile(&text(10_001), "at").unwrap_err();
    assert_eq!(errors[0].to_string(), "at:1:1: the expression is longer than 10000 bytes");
}

#[test]
fn dear_expressions_end_with_the_budget() {
    let list = format!("[{}]", (0..100).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
    let double = |inner: &str, times: usize| {
        (0..times).fold(inner.to_owned(), |text, n| format!("cel.bind(x{n}, {text}, x{n} + x{n} + x{n} + x{n})"))
    };
    for text in [
        format!("{list}.all(a, {list}.all(b, {list}.all(c, {list}.all(d, a + b + c + d >= 0))))"),
        format!("{list}.map(a, {list}.map(b, {list}.map(c, [a, b, c]))).size() > 0"),
        format!("{} == ''", double("ctx.request.http.path", 30)),
        format!("size({})", double("[now()]", 30)),
        format!("{list}.all(a, {list}.all(b, json.marshal(ctx).size() > 0))"),
        format!("{list}.exists(a, ctx.request.http.path.matches('(a{{100}}){{10}}|' + string(a)))"),
        format!(
            "{list}.exists(a, {list}.exists(b, {}.replace('', {}) == ''))",
            double("ctx.request.http.path", 5),
            double("ctx.request.http.path", 5)
        ),
    ] {
        assert_eq!(survive(&text), Some(Err(EvalError::Budget)), "{text}");
    }
}

#[test]
fn regular_expressions_have_no_blow_up() {
    let errors = Expression::compile("'a'.matches('((a{1000}){1000}){1000}')", "at").unwrap_err();
    assert!(errors[0].message.contains("too big"), "{errors:?}");
    assert!(matches!(
        survive(&format!("('a' + '{}').matches('(a*)*(a*)*(a|b)*(a|aa)+$')", "a".repeat(5000))),
        Some(Ok(_))
    ));
}

#[test]
fn what_a_regular_expression_repeats_is_paid_for() {
    let text = |pattern: &str| {
        let once = format!("ctx.request.http.path + '{}'", "a".repeat(8000));
        format!("cel.bind(t, {once}, cel.bind(u, t+t+t+t, cel.bind(v, u+u+u+u, v.matches('{pattern}'))))")
    };
    assert!(matches!(survive(&text("b")), Some(Ok(_))));
    assert_eq!(survive(&text("(a{50}){50}b")), Some(Err(EvalError::Budget)));
}

#[test]
fn nonsense_is_refused_without_a_crash() {
    for text in [
        "has(",
        "has()",
        "cel.bind(",
        "cel.bind()",
        "[1].all(x",
        "a.b(",
        ".",
        "..",
        "1..2",
        "a.",
        "@",
        "a @ b",
        "\u{0}",
        "ctx.`a`",
        "'\\",
        "b'\\u0041'",
        "{",
        "{:}",
        "{a:}",
        "f(,)",
        "a?b",
        "a?:b",
        "a:b",
        "in",
        "1 in",
        "true.x",
        "1.x",
        "🦀",
        "'🦀'.x",
        "has('🦀'.x)",
        "0x",
        "0xg",
        "1u2",
        "99999999999999999999",
        "1e999",
        "ctx.if",
        "for",
        "a.all(for, true)",
        "//",
        "// x\n",
        "cel.all(x, true)",
        "net",
        "net.x",
        "json.parse",
        "@result",
        "ctx.request.http.headers.all(h, h)[0]",
    ] {
        assert!(Expression::compile(text, "at").is_err(), "{text}");
    }
}

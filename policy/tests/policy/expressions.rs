//! Single expressions as data: `tests/cases/expressions.yaml`.

use octelium_policy::{Budget, Expression};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::support::{World, world, yaml};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Row of the specification, or a name.
    id: String,
    expr: String,
    is: Option<Json>,
    fails: Option<String>,
    refused: Option<String>,
}

fn check(case: &Case, world: &World) -> Result<(), String> {
    let expression = match (Expression::compile(&case.expr, "at"), &case.refused) {
        (Ok(expression), None) => expression,
        (Ok(_), Some(_)) => return Err("was not refused".into()),
        (Err(errors), refused) => {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let expected = refused.as_ref().is_some_and(|part| texts.iter().any(|text| text.contains(part)));
            return if expected { Ok(()) } else { Err(format!("refused: {texts:?}")) };
        }
    };
    let result = expression.evaluate(&world.context(), None, &mut Budget::new());
    match (result, &case.is, &case.fails) {
        (Ok(value), Some(expected), None) if value.to_json() == *expected => Ok(()),
        (Err(error), None, Some(part)) if error.to_string().contains(part) => Ok(()),
        (result, ..) => Err(format!("{result:?}")),
    }
}

#[test]
fn expressions_are_as_specified() {
    let cases: Vec<Case> = yaml("expressions.yaml");
    assert!(cases.len() > 150, "only {} cases", cases.len());
    let world = world();
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| check(case, &world).err().map(|why| format!("{} `{}`: {why}", case.id, case.expr)))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What is computed when compiled is computed as when evaluated.
#[test]
fn constants_are_folded_without_a_difference() {
    let world = world();
    for case in yaml::<Vec<Case>>("expressions.yaml").iter().filter(|case| case.refused.is_none()) {
        // A variable instead of nothing in front of each list keeps it from being constant.
        let hidden = case.expr.replace('[', "dyn([])+[").replace(")dyn([])+[", ")[");
        let Ok(expression) = Expression::compile(&hidden, "at") else { continue };
        let plain = Expression::compile(&case.expr, "at").unwrap();
        let evaluate = |expression: &Expression| expression.evaluate(&world.context(), None, &mut Budget::new());
        if let (Ok(a), Ok(b)) = (evaluate(&plain), evaluate(&expression)) {
            assert_eq!(a, b, "{} `{}`", case.id, case.expr);
        }
    }
}

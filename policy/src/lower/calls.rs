//! Calls of functions: which one is meant, and whether the arguments fit.

use cel::{
    IdedExpr,
    common::ast::{CallExpr, Expr as Ast},
};

use super::{Lowerer, Typed, fold, suggest};
use crate::{
    builtins::{regexes, times},
    expr::Expr,
    functions::{Fun, MACROS, NAMESPACES, OVERLOADS, Overload},
    schema::Ty,
};

impl Lowerer<'_, '_> {
    pub(super) fn call(&mut self, id: u64, call: &CallExpr) -> Typed {
        let name = call.func_name.as_str();
        let Some(target) = &call.target else {
            let name = name.strip_prefix('.').unwrap_or(name);
            return match self.operator(id, name, &call.args) {
                Some(typed) => typed,
                None if name == "has" => self.has(id, &call.args),
                None => self.function(id, name, name, false, &mut call.args.iter()),
            };
        };
        if let Ast::Ident(namespace) = &target.expr
            && NAMESPACES.contains(&namespace.as_str())
            && !self.scope.iter().any(|binding| binding.name == *namespace)
        {
            return match (namespace.as_str(), name) {
                ("cel", "bind") => self.bind(id, &call.args),
                _ => self.function(id, &format!("{namespace}.{name}"), name, false, &mut call.args.iter()),
            };
        }
        match self.comprehension(id, target, name, &call.args) {
            Some(typed) => typed,
            None => self.function(id, name, name, true, &mut std::iter::once(&**target).chain(&call.args)),
        }
    }

    /// A function's call; a method's object is the first of `args`. `name` is the whole name, `written` what stands at the call.
    fn function(
        &mut self,
        id: u64,
        name: &str,
        written: &str,
        member: bool,
        args: &mut dyn Iterator<Item = &IdedExpr>,
    ) -> Typed {
        let all: Vec<&Overload> = OVERLOADS.iter().filter(|overload| overload.name == name).collect();
        if all.is_empty() {
            return self.unknown_function(id, name, written, member);
        }
        let overloads: Vec<&Overload> = all.into_iter().filter(|overload| overload.member == member).collect();
        if overloads.is_empty() {
            let form = if member { format!("{name}(x)") } else { format!("x.{name}(…)") };
            return self.fail(id, Some(written), format!("`{name}` is called as `{form}`"), None);
        }
        let typed: Vec<Typed> = args.map(|arg| self.expr(arg)).collect();
        let count = typed.len();
        let arity =
            |overload: &Overload| count == overload.params.len() || overload.variadic && count > overload.params.len();
        if !overloads.iter().any(|overload| arity(overload)) {
            let own = usize::from(member);
            let mut takes: Vec<String> =
                overloads.iter().map(|overload| (overload.params.len() - own).to_string()).collect();
            takes.dedup();
            let message = format!("`{name}` takes {} arguments, not {}", takes.join(" or "), count - own);
            return self.fail(id, Some(written), message, None);
        }
        let types: Vec<Ty> = typed.iter().map(|arg| arg.ty.clone()).collect();
        let fits = |overload: &Overload| {
            let last = overload.params.last();
            arity(overload)
                && types
                    .iter()
                    .enumerate()
                    .all(|(index, ty)| overload.params.get(index).or(last).is_none_or(|param| param.accepts(ty)))
        };
        let fitting: Vec<&Overload> = overloads.into_iter().filter(|overload| fits(overload)).collect();
        let Some(chosen) = fitting.first() else {
            let types: Vec<String> = types.iter().map(ToString::to_string).collect();
            return self.fail(id, Some(written), format!("`{name}` is not defined for ({})", types.join(", ")), None);
        };
        let ty = fitting.iter().map(|overload| overload.answer.ty(&types)).reduce(Ty::or).unwrap_or(Ty::Dyn);
        self.special(id, chosen.fun, typed, ty)
    }

    /// What can be prepared now is: regular expressions are compiled, `dyn` vanishes.
    fn special(&mut self, id: u64, fun: Fun, mut args: Vec<Typed>, ty: Ty) -> Typed {
        match fun {
            Fun::Dyn => return args.pop().map_or_else(Typed::wrong, |arg| Typed::new(arg.expr, Ty::Dyn)),
            Fun::Matches => {
                if let Some(pattern) = args.get(1).and_then(Typed::as_const_str) {
                    return match regexes::compile(pattern) {
                        Ok(regex) => {
                            fold(Typed::new(Expr::Matches(Box::new(args.swap_remove(0).expr), Box::new(regex)), ty))
                        }
                        Err(reason) => {
                            self.fail(id, Some("matches"), format!("the regular expression is refused: {reason}"), None)
                        }
                    };
                }
            }
            _ if fun.has_zone() => {
                if let Some(zone) = args.get(1).and_then(Typed::as_const_str)
                    && times::Zone::named(zone).is_none()
                {
                    let hint = suggest::nearest(zone, times::zone_names())
                        .unwrap_or_else(|| "use UTC, an offset like +02:00 or a name like Europe/Berlin".into());
                    return self.fail(id, None, format!("there is no time zone `{zone}`"), Some(hint));
                }
            }
            _ => {}
        }
        fold(Typed::new(Expr::Call(fun, args.into_iter().map(|arg| arg.expr).collect()), ty))
    }

    fn unknown_function(&mut self, id: u64, name: &str, written: &str, member: bool) -> Typed {
        let known = OVERLOADS.iter().filter(|overload| overload.member == member).map(|overload| overload.name);
        let hint = suggest::nearest(name, known.chain(MACROS.iter().copied()));
        self.fail(id, Some(written), format!("unknown function `{name}`"), hint)
    }
}

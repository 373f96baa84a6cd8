//! Evaluation of compiled expressions.

mod arith;

use std::{cmp::Ordering, sync::Arc};

use chrono::DateTime;

use crate::{
    Budget, EvalError, Map, Value,
    access::Input,
    builtins,
    expr::{Collect, Expr, HasField, Order, Quantifier},
    functions::Fun,
    value::{Val, View, compare, equal},
};

/// Evaluates expressions over one input.
pub(crate) struct Machine<'a, 'b> {
    input: Input<'a>,
    budget: &'b mut Budget,
    /// Variables of the macros around the current place.
    locals: Vec<Val<'a>>,
}

impl<'a, 'b> Machine<'a, 'b> {
    pub(crate) fn new(input: Input<'a>, budget: &'b mut Budget) -> Self {
        Self { input, budget, locals: Vec::new() }
    }

    /// The value of an expression.
    pub(crate) fn eval(&mut self, expr: &'a Expr) -> Result<Val<'a>, EvalError> {
        self.budget.spend(1)?;
        match expr {
            Expr::Const(value) => Ok(Val::Ref(value)),
            Expr::Local(slot) => Ok(self.locals[usize::from(*slot)].clone()),
            Expr::Access(access) => self.input.read(access, self.budget),
            Expr::Select(of, name) => select(self.eval(of)?, name),
            Expr::Index(of, key) => self.index(of, key),
            Expr::Choice(parts) => {
                let [condition, yes, no] = &**parts;
                let chosen = if self.test(condition)? { yes } else { no };
                self.eval(chosen)
            }
            Expr::Neg(of) => arith::negate(self.eval(of)?.view()).map(Val::Own),
            Expr::Arith(arith, sides) => {
                let (a, b) = (self.eval(&sides[0])?, self.eval(&sides[1])?);
                arith::binary(*arith, a.view(), b.view(), self.budget).map(Val::Own)
            }
            Expr::Call(Fun::Contains | Fun::StartsWith | Fun::EndsWith, _) => self.truth(expr).map(Val::bool),
            Expr::Call(fun, args) => self.call(*fun, args),
            Expr::List(items) => self.list(items),
            Expr::Map(entries) => self.map(entries),
            Expr::Collect(collect) => self.collect(collect),
            Expr::Bind(parts) => {
                let value = self.eval(&parts[0])?;
                self.locals.push(value);
                let result = self.eval(&parts[1]);
                self.locals.pop();
                result
            }
            _ => self.truth(expr).map(Val::bool),
        }
    }

    /// The value of an expression that must be a bool.
    pub(crate) fn test(&mut self, expr: &'a Expr) -> Result<bool, EvalError> {
        match expr {
            Expr::And(_)
            | Expr::Or(_)
            | Expr::Not(_)
            | Expr::Equal(..)
            | Expr::Compare(..)
            | Expr::In(_)
            | Expr::InStrings(..)
            | Expr::Matches(..)
            | Expr::Has(_)
            | Expr::HasField(_)
            | Expr::Call(Fun::Contains | Fun::StartsWith | Fun::EndsWith, _)
            | Expr::Quantify(..) => {
                self.budget.spend(1)?;
                self.truth(expr)
            }
            _ => match self.eval(expr)?.view() {
                View::Bool(value) => Ok(value),
                _ => Err(EvalError::NotBool),
            },
        }
    }

    /// Expressions that are always a bool.
    fn truth(&mut self, expr: &'a Expr) -> Result<bool, EvalError> {
        match expr {
            Expr::And(terms) => self.absorb(terms, false),
            Expr::Or(terms) => self.absorb(terms, true),
            Expr::Not(of) => self.test(of).map(|value| !value),
            Expr::Equal(sides, negated) => {
                if let (Some(a), Some(b)) = (self.text(&sides[0]), self.text(&sides[1])) {
                    self.budget.spend_bytes(a.len().min(b.len()))?;
                    return Ok((a == b) != *negated);
                }
                let (a, b) = (self.eval(&sides[0])?, self.eval(&sides[1])?);
                equal(a.view(), b.view(), self.budget).map(|equal| equal != *negated)
            }
            Expr::Compare(order, sides) => {
                let (a, b) = (self.eval(&sides[0])?, self.eval(&sides[1])?);
                let ordering = compare(a.view(), b.view(), self.budget)?;
                Ok(ordering.is_some_and(|ordering| match order {
                    Order::Less => ordering == Ordering::Less,
                    Order::LessEqual => ordering != Ordering::Greater,
                    Order::Greater => ordering == Ordering::Greater,
                    Order::GreaterEqual => ordering != Ordering::Less,
                }))
            }
            Expr::In(sides) => {
                if let (Some(text), Some(list)) = (self.text(&sides[0]), self.items(&sides[1])) {
                    self.budget.spend(list.len() as u64 * (text.len() as u64 / 16 + 1))?;
                    return Ok(list.iter().any(|item| matches!(item, Value::String(item) if **item == *text)));
                }
                let (item, container) = (self.eval(&sides[0])?, self.eval(&sides[1])?);
                self.contains(container.view(), item.view())
            }
            Expr::InStrings(item, strings) => match self.eval(item)?.view() {
                View::Str(text) => {
                    self.budget.spend_bytes(text.len())?;
                    Ok(strings.binary_search_by(|other| (**other).cmp(text)).is_ok())
                }
                _ => Ok(false),
            },
            Expr::Matches(text, regex) => match self.eval(text)?.view() {
                View::Str(text) => builtins::regexes::is_match(regex, text, self.budget),
                _ => Err(EvalError::Overload("matches")),
            },
            Expr::Call(fun @ (Fun::Contains | Fun::StartsWith | Fun::EndsWith), args) => {
                if let (Some(text), Some(part)) = (self.text(&args[0]), self.text(&args[1])) {
                    return self.has_part(*fun, text, part);
                }
                let (text, part) = (self.eval(&args[0])?, self.eval(&args[1])?);
                match (text.view(), part.view()) {
                    (View::Str(text), View::Str(part)) => self.has_part(*fun, text, part),
                    _ => Err(EvalError::Overload(fun.name())),
                }
            }
            Expr::Has(access) => self.input.has(access, self.budget),
            Expr::HasField(has) => self.has_field(has),
            Expr::Quantify(quantifier, parts) => self.quantify(*quantifier, &parts[0], &parts[1]),
            // Nothing else is always a bool.
            _ => Err(EvalError::NotBool),
        }
    }

    /// The text of a leaf, if it is one that has its text at hand; `None` says nothing about its value.
    fn text(&self, expr: &'a Expr) -> Option<&'a str> {
        match expr {
            Expr::Const(Value::String(text)) => Some(text),
            Expr::Access(access) => self.input.text(access),
            _ => None,
        }
    }

    /// The elements of a leaf, if it is one that has its list at hand; `None` says nothing about its value.
    fn items(&self, expr: &'a Expr) -> Option<&'a [Value]> {
        let value = match expr {
            Expr::Const(value) => value,
            Expr::Access(access) => self.input.value(access)?,
            _ => return None,
        };
        match value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    fn has_part(&mut self, fun: Fun, text: &str, part: &str) -> Result<bool, EvalError> {
        self.budget.spend_bytes(text.len().max(part.len()))?;
        Ok(match fun {
            Fun::StartsWith => text.starts_with(part),
            Fun::EndsWith => text.ends_with(part),
            _ => text.contains(part),
        })
    }

    /// `&&` (`decisive` false) and `||` (true): a decisive term outweighs the errors of others.
    fn absorb(&mut self, terms: &'a [Expr], decisive: bool) -> Result<bool, EvalError> {
        let mut failed: Option<EvalError> = None;
        for term in terms {
            match self.test(term) {
                Ok(value) if value == decisive => return Ok(decisive),
                Ok(_) => {}
                Err(EvalError::Budget) => return Err(EvalError::Budget),
                Err(error) => failed = Some(failed.map_or(error, |earlier| earlier.worst(error))),
            }
        }
        failed.map_or(Ok(!decisive), Err)
    }

    fn contains(&mut self, container: View<'_>, item: View<'_>) -> Result<bool, EvalError> {
        match container {
            View::List(items) => {
                for other in items {
                    self.budget.spend(1)?;
                    if equal(other.view(), item, self.budget)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            View::Map(map) => match item {
                View::Str(key) => Ok(map.get(key).is_some()),
                View::Bool(_) | View::Int(_) | View::UInt(_) | View::Double(_) => Ok(false),
                _ => Err(EvalError::Overload("in")),
            },
            _ => Err(EvalError::Overload("in")),
        }
    }

    fn has_field(&mut self, has: &'a HasField) -> Result<bool, EvalError> {
        let operand = self.eval(&has.operand)?;
        match operand.view() {
            View::Map(map) => match (map.get(&has.name), &has.unset) {
                (None, _) => Ok(false),
                (Some(_), None) => Ok(true),
                (Some(value), Some(unset)) => Ok(!equal(value.view(), unset.view(), self.budget)?),
            },
            View::Null => Err(EvalError::Missing),
            _ => Err(EvalError::Overload("has")),
        }
    }

    fn index(&mut self, of: &'a Expr, key: &'a Expr) -> Result<Val<'a>, EvalError> {
        let of = self.eval(of)?;
        let key = self.eval(key)?;
        match (of.view(), key.view()) {
            (View::Map(_) | View::Null, View::Str(name)) => select(of, name),
            (View::Map(_), View::Int(_) | View::UInt(_) | View::Bool(_) | View::Double(_)) => Err(EvalError::Missing),
            (View::List(_), key) => {
                let index = match key {
                    View::Int(index) => usize::try_from(index).map_err(|_| EvalError::Missing)?,
                    View::UInt(index) => usize::try_from(index).map_err(|_| EvalError::Missing)?,
                    View::Double(index) if index.fract() == 0.0 && index >= 0.0 => index as usize,
                    _ => return Err(EvalError::Overload("[]")),
                };
                let elements = Elements::of(of).ok_or(EvalError::Overload("[]"))?;
                elements.get(index).ok_or(EvalError::Missing)
            }
            _ => Err(EvalError::Overload("[]")),
        }
    }

    fn call(&mut self, fun: Fun, args: &'a [Expr]) -> Result<Val<'a>, EvalError> {
        if fun == Fun::Now {
            return Ok(Val::Own(Value::Timestamp(DateTime::from_timestamp_nanos(self.input.now_unix_nanos()))));
        }
        let value = match args {
            [a] => {
                let a = self.eval(a)?;
                builtins::call(fun, &[a.view()], self.budget)
            }
            [a, b] => {
                let (a, b) = (self.eval(a)?, self.eval(b)?);
                builtins::call(fun, &[a.view(), b.view()], self.budget)
            }
            args => {
                let args: Vec<Val<'a>> = args.iter().map(|arg| self.eval(arg)).collect::<Result<_, _>>()?;
                let views: Vec<View<'_>> = args.iter().map(Val::view).collect();
                builtins::call(fun, &views, self.budget)
            }
        };
        value.map(Val::Own)
    }

    fn list(&mut self, items: &'a [Expr]) -> Result<Val<'a>, EvalError> {
        let items: Vec<Value> = items.iter().map(|item| self.owned(item)).collect::<Result<_, _>>()?;
        Ok(Val::Own(Value::list(items)))
    }

    fn map(&mut self, entries: &'a [(Expr, Expr)]) -> Result<Val<'a>, EvalError> {
        let mut made: Vec<(Arc<str>, Value)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let key = match self.owned(key)? {
                Value::String(key) => key,
                _ => return Err(EvalError::Overload("{}")),
            };
            made.push((key, self.owned(value)?));
        }
        let count = made.len();
        let map: Map = made.into_iter().collect();
        if map.len() < count {
            return Err(EvalError::Invalid("a map has the same key twice"));
        }
        Ok(Val::Own(Value::Map(Arc::new(map))))
    }

    /// The value, paid for if it must be copied.
    fn owned(&mut self, expr: &'a Expr) -> Result<Value, EvalError> {
        let value = self.eval(expr)?;
        if let Val::Str(text) = value {
            self.budget.spend_bytes(text.len())?;
        }
        Ok(value.into_value())
    }

    fn elements(&mut self, range: &'a Expr) -> Result<Elements<'a>, EvalError> {
        Elements::of(self.eval(range)?).ok_or(EvalError::Overload("comprehension"))
    }

    /// Evaluates `step` with the next local variable set to `element`.
    fn with<T>(
        &mut self,
        element: Val<'a>,
        step: impl FnOnce(&mut Self) -> Result<T, EvalError>,
    ) -> Result<T, EvalError> {
        self.budget.spend(1)?;
        self.locals.push(element);
        let result = step(self);
        self.locals.pop();
        result
    }

    fn quantify(&mut self, quantifier: Quantifier, range: &'a Expr, condition: &'a Expr) -> Result<bool, EvalError> {
        let elements = self.elements(range)?;
        let decisive = quantifier != Quantifier::All;
        let mut failed: Option<EvalError> = None;
        let mut found = 0_usize;
        for index in 0.. {
            let Some(element) = elements.get(index) else { break };
            match self.with(element, |machine| machine.test(condition)) {
                Ok(value) if quantifier == Quantifier::ExistsOne => found += usize::from(value),
                Ok(value) if value == decisive => return Ok(decisive),
                Ok(_) => {}
                Err(error) if error == EvalError::Budget || quantifier == Quantifier::ExistsOne => return Err(error),
                Err(error) => failed = Some(failed.map_or(error, |earlier| earlier.worst(error))),
            }
        }
        match failed {
            Some(error) => Err(error),
            None if quantifier == Quantifier::ExistsOne => Ok(found == 1),
            None => Ok(!decisive),
        }
    }

    fn collect(&mut self, collect: &'a Collect) -> Result<Val<'a>, EvalError> {
        let elements = self.elements(&collect.range)?;
        let mut made = Vec::new();
        for index in 0.. {
            let Some(element) = elements.get(index) else { break };
            let value = self.with(element, |machine| {
                if let Some(filter) = &collect.filter
                    && !machine.test(filter)?
                {
                    return Ok(None);
                }
                machine.owned(&collect.body).map(Some)
            })?;
            made.extend(value);
        }
        Ok(Val::Own(Value::list(made)))
    }
}

/// What a comprehension runs over: the elements of a list, the keys of a map.
enum Elements<'a> {
    Ref(&'a [Value]),
    List(Arc<[Value]>),
    Keys(&'a Map),
    OwnKeys(Arc<Map>),
}

impl<'a> Elements<'a> {
    fn of(value: Val<'a>) -> Option<Self> {
        match value {
            Val::Ref(Value::List(items)) => Some(Self::Ref(items)),
            Val::Own(Value::List(items)) => Some(Self::List(items)),
            Val::Ref(Value::Map(map)) => Some(Self::Keys(map)),
            Val::Own(Value::Map(map)) => Some(Self::OwnKeys(map)),
            _ => None,
        }
    }

    fn get(&self, index: usize) -> Option<Val<'a>> {
        match self {
            Self::Ref(items) => items.get(index).map(Val::Ref),
            Self::List(items) => items.get(index).cloned().map(Val::Own),
            Self::Keys(map) => map.at(index).map(|(key, _)| Val::Str(key)),
            Self::OwnKeys(map) => map.at(index).map(|(key, _)| Val::Own(Value::String(Arc::clone(key)))),
        }
    }
}

/// `of.name`
fn select<'a>(of: Val<'a>, name: &str) -> Result<Val<'a>, EvalError> {
    match of {
        Val::Ref(Value::Map(map)) => map.get(name).map(Val::Ref).ok_or(EvalError::Missing),
        Val::Own(Value::Map(map)) => map.get(name).cloned().map(Val::Own).ok_or(EvalError::Missing),
        Val::Ref(Value::Null) | Val::Own(Value::Null) => Err(EvalError::Missing),
        _ => Err(EvalError::Overload("field selection")),
    }
}

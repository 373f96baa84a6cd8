//! Macros: `all`, `exists`, `exists_one`, `map`, `filter`, `cel.bind`.

use cel::{IdedExpr, common::ast::Expr as Ast};

use super::{Binding, Bound, COMPREHENSIONS_MAX, Lowerer, Typed};
use crate::{
    access::{Access, HttpField},
    expr::{Collect, Expr, Quantifier},
    schema::Ty,
};

impl Lowerer<'_, '_> {
    /// `target.name(args)` if that is a macro.
    pub(super) fn comprehension(&mut self, id: u64, target: &IdedExpr, name: &str, args: &[IdedExpr]) -> Option<Typed> {
        let quantifier = match name {
            "all" => Some(Quantifier::All),
            "exists" => Some(Quantifier::Exists),
            "exists_one" | "existsOne" => Some(Quantifier::ExistsOne),
            "map" | "filter" => None,
            _ => return None,
        };
        if args.len() != 2 && !(name == "map" && args.len() == 3) {
            let message = format!("`{name}` takes a variable and an expression, as in `list.{name}(x, …)`");
            return Some(self.fail(id, Some(name), message, None));
        }
        let Some(variable) = self.variable(&args[0]) else { return Some(Typed::wrong()) };
        let range = self.expr(target);
        let element = match &range.ty {
            Ty::List(of) => (**of).clone(),
            Ty::Dyn => Ty::Dyn,
            ty if ty.is_map() => Ty::String,
            ty => {
                return Some(self.fail(
                    id,
                    Some(name),
                    format!("`{name}` needs a list or map, and this is {ty}"),
                    None,
                ));
            }
        };
        self.comprehensions += 1;
        if self.comprehensions > COMPREHENSIONS_MAX {
            self.comprehensions -= 1;
            return Some(self.fail(id, Some(name), "too many macros within macros: at most 4", None));
        }
        self.declare(variable, element.clone());
        let typed = match quantifier {
            Some(quantifier) => {
                let condition = self.condition(&args[1], name);
                Typed::new(Expr::Quantify(quantifier, Box::new([range.expr, condition])), Ty::Bool)
            }
            None => self.collect(range.expr, element, name, args),
        };
        self.forget_local();
        self.comprehensions -= 1;
        Some(typed)
    }

    fn collect(&mut self, range: Expr, element: Ty, name: &str, args: &[IdedExpr]) -> Typed {
        let (filter, body) = match (name, args) {
            ("filter", [_, filter]) => {
                let filter = self.condition(filter, name);
                (Some(filter), Typed::new(Expr::Local(self.locals - 1), element))
            }
            ("map", [_, filter, body]) => {
                let filter = self.condition(filter, name);
                (Some(filter), self.expr(body))
            }
            (_, [.., body]) => (None, self.expr(body)),
            _ => (None, Typed::wrong()),
        };
        Typed::new(Expr::Collect(Box::new(Collect { range, filter, body: body.expr })), Ty::list(body.ty))
    }

    /// A macro's condition, which must be a bool.
    fn condition(&mut self, ast: &IdedExpr, name: &str) -> Expr {
        let condition = self.expr(ast);
        if !matches!(condition.ty, Ty::Bool | Ty::Dyn) {
            self.fail(ast.id, None, format!("`{name}` needs a bool, and this is {}", condition.ty), None);
        }
        condition.expr
    }

    /// `cel.bind(name, value, body)`
    pub(super) fn bind(&mut self, id: u64, args: &[IdedExpr]) -> Typed {
        let [name, value, body] = args else {
            return self.fail(id, Some("bind"), "`cel.bind` takes a variable, its value and an expression", None);
        };
        let Some(name) = self.variable(name) else { return Typed::wrong() };
        let value = self.expr(value);
        // A name for a part of the input costs nothing: what is read is what is selected from it. Of headers, that is in any case.
        let is_part = match &value.expr {
            Expr::Access(Access::Whole(_)) => matches!(value.ty, Ty::Node(_)),
            Expr::Access(Access::Http(_, field)) => matches!(field, HttpField::Headers | HttpField::HeadersAll),
            _ => false,
        };
        if let (Expr::Access(access), true) = (&value.expr, is_part) {
            self.scope.push(Binding { name, what: Bound::Alias(access.clone(), value.ty) });
            let body = self.expr(body);
            self.scope.pop();
            return body;
        }
        self.declare(name, value.ty);
        let body = self.expr(body);
        self.forget_local();
        Typed::new(Expr::Bind(Box::new([value.expr, body.expr])), body.ty)
    }

    fn variable(&mut self, ast: &IdedExpr) -> Option<String> {
        match &ast.expr {
            Ast::Ident(name) if !name.starts_with('.') => Some(name.clone()),
            _ => {
                self.fail(ast.id, None, "the first argument must be a simple name", None);
                None
            }
        }
    }

    fn declare(&mut self, name: String, ty: Ty) {
        self.scope.push(Binding { name, what: Bound::Local(self.locals, ty) });
        self.locals += 1;
    }

    fn forget_local(&mut self) {
        self.scope.pop();
        self.locals -= 1;
    }
}

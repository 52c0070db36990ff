use proc_macro2::TokenTree;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Ident, LitStr, MacroDelimiter, Meta, Path, Token, WherePredicate};

use crate::errors::Errors;

/// Where an attribute stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Type,
    Variant,
    Field,
}

impl Place {
    /// What can be written there, for messages.
    fn choices(self) -> &'static str {
        match self {
            Self::Type => "`rename = \"..\"`, `bound = \"..\"` or `crate = \"..\"`",
            Self::Variant => "`rename = \"..\"`",
            Self::Field => "`static`, `skip`, `rename = \"..\"` or `bound = \"..\"`",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Type => "the type",
            Self::Variant => "a variant",
            Self::Field => "a field",
        }
    }
}

/// What the `#[module(..)]` attributes of one place say.
#[derive(Default)]
pub(crate) struct Attributes {
    /// The token `static`.
    pub(crate) static_: Option<Ident>,
    /// The token `skip`.
    pub(crate) skip: Option<Ident>,
    /// The name that replaces the one in the source.
    pub(crate) rename: Option<LitStr>,
    /// The bounds in place of those that the fields lead to.
    pub(crate) bound: Option<Bound>,
    /// The path of the crate that the expansion names.
    pub(crate) root: Option<Path>,
}

/// What a `where` clause takes, and the token `bound`.
pub(crate) struct Bound {
    pub(crate) name: Ident,
    pub(crate) predicates: Punctuated<WherePredicate, Token![,]>,
}

impl Attributes {
    /// Reads the `#[module(..)]` attributes of a place, and leaves all others alone.
    pub(crate) fn parse(attributes: &[syn::Attribute], place: Place, errors: &mut Errors) -> Self {
        let mut parsed = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("module")) {
            let tokens = match &attribute.meta {
                Meta::List(list)
                    if matches!(list.delimiter, MacroDelimiter::Paren(_)) && !list.tokens.is_empty() =>
                {
                    list.tokens.clone()
                }
                other => {
                    errors.push(other, format!("write {} in it: `#[module(..)]`", place.choices()));
                    continue;
                }
            };
            let list = |input: ParseStream<'_>| parsed.list(input, place, errors);
            if let Err(error) = list.parse2(tokens) {
                errors.add(error);
            }
        }
        parsed
    }

    fn list(&mut self, input: ParseStream<'_>, place: Place, errors: &mut Errors) -> syn::Result<()> {
        while !input.is_empty() {
            if let Err(error) = self.argument(input, place) {
                errors.add(error);
                // What is left of this argument must not hide the errors of the next ones.
                while !input.is_empty() && !input.peek(Token![,]) {
                    input.parse::<TokenTree>()?;
                }
            }
            input.parse::<Option<Token![,]>>()?;
        }
        Ok(())
    }

    fn argument(&mut self, input: ParseStream<'_>, place: Place) -> syn::Result<()> {
        // `static` and `crate` are keywords.
        let name = Ident::parse_any(input)
            .map_err(|error| syn::Error::new(error.span(), format!("expected {}", place.choices())))?;
        match (name.unraw().to_string().as_str(), place) {
            ("static", Place::Field) => set(&mut self.static_, &name, flag(&name, input)?),
            ("skip", Place::Field) => set(&mut self.skip, &name, flag(&name, input)?),
            ("rename", _) => {
                let new = text(&name, input)?;
                if new.value().is_empty() {
                    return Err(syn::Error::new(new.span(), "a name can not be empty"));
                }
                set(&mut self.rename, &name, new)
            }
            ("bound", Place::Type | Place::Field) => {
                let bound = text(&name, input)?;
                let predicates = bound.parse_with(Punctuated::parse_terminated).map_err(|_| {
                    syn::Error::new(bound.span(), "no bounds, such as \"T: Field, U: Static\"")
                })?;
                set(&mut self.bound, &name, Bound { name: name.clone(), predicates })
            }
            ("crate", Place::Type) => {
                let root = text(&name, input)?;
                let path = root.parse_with(Path::parse_mod_style).map_err(|_| {
                    syn::Error::new(root.span(), "not the path of a crate, such as \"::bridge_graph\"")
                })?;
                set(&mut self.root, &name, path)
            }
            ("static" | "skip", _) => misplaced(&name, Place::Field, place),
            ("crate", _) => misplaced(&name, Place::Type, place),
            ("bound", _) => misplaced(&name, Place::Type, place),
            (unknown, _) => {
                let meant = match closest(unknown) {
                    Some(close) => format!("is `{close}` meant?"),
                    None => format!("expected {}", place.choices()),
                };
                Err(syn::Error::new(name.span(), format!("unknown attribute `{unknown}`: {meant}")))
            }
        }
    }
}

fn misplaced(name: &Ident, belongs: Place, place: Place) -> syn::Result<()> {
    let message = format!("`{name}` belongs on {}, not on {}", belongs.name(), place.name());
    Err(syn::Error::new(name.span(), message))
}

fn set<T>(slot: &mut Option<T>, name: &Ident, value: T) -> syn::Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(syn::Error::new(name.span(), format!("`{name}` stands here twice: remove one"))),
    }
}

fn flag(name: &Ident, input: ParseStream<'_>) -> syn::Result<Ident> {
    end(input, || format!("`{name}` takes no value"))?;
    Ok(name.clone())
}

fn text(name: &Ident, input: ParseStream<'_>) -> syn::Result<LitStr> {
    let expected = || format!("`{name}` takes a text: `{name} = \"..\"`");
    if !input.peek(Token![=]) {
        let span = if input.is_empty() || input.peek(Token![,]) { name.span() } else { input.span() };
        return Err(syn::Error::new(span, expected()));
    }
    input.parse::<Token![=]>()?;
    let text = input.parse::<LitStr>().map_err(|error| syn::Error::new(error.span(), expected()))?;
    end(input, expected)?;
    Ok(text)
}

fn end(input: ParseStream<'_>, message: impl FnOnce() -> String) -> syn::Result<()> {
    match input.is_empty() || input.peek(Token![,]) {
        true => Ok(()),
        false => Err(input.error(message())),
    }
}

/// The attribute's name that is at most two letters from `unknown`.
fn closest(unknown: &str) -> Option<&'static str> {
    ["static", "skip", "rename", "bound", "crate"]
        .into_iter()
        .map(|known| (strsim::levenshtein(unknown, known), known))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use quote::quote;
    use syn::parse::Parser;

    use super::*;

    fn check(attributes: proc_macro2::TokenStream, place: Place, expected: &[&str]) -> Attributes {
        let attributes = syn::Attribute::parse_outer.parse2(attributes).unwrap();
        let mut errors = Errors::default();
        let parsed = Attributes::parse(&attributes, place, &mut errors);
        assert_eq!(errors.messages(), expected);
        parsed
    }

    #[test]
    fn reads_every_attribute() {
        let parsed = check(quote!(#[module(static, rename = "dims",)]), Place::Field, &[]);
        assert!(parsed.static_.is_some() && parsed.skip.is_none());
        assert_eq!(parsed.rename.unwrap().value(), "dims");

        let parsed = check(quote!(#[doc = "x"] #[module(skip)] #[serde(skip)]), Place::Field, &[]);
        assert!(parsed.skip.is_some());

        let parsed = check(quote!(#[module(crate = "a::b")] #[module(rename = "Net")]), Place::Type, &[]);
        assert_eq!(parsed.root.unwrap().segments.len(), 2);
        assert_eq!(parsed.rename.unwrap().value(), "Net");
    }

    #[test]
    fn what_is_not_a_list_is_an_error() {
        let expected = "write `static`, `skip`, `rename = \"..\"` or `bound = \"..\"` in it: `#[module(..)]`";
        for attributes in
            [quote!(#[module]), quote!(#[module()]), quote!(#[module = "static"]), quote!(#[module[skip]])]
        {
            check(attributes, Place::Field, &[expected]);
        }
        check(
            quote!(#[module]),
            Place::Type,
            &["write `rename = \"..\"`, `bound = \"..\"` or `crate = \"..\"` in it: `#[module(..)]`"],
        );
    }

    #[test]
    fn unknown_names_suggest_a_close_one() {
        check(quote!(#[module(statik)]), Place::Field, &["unknown attribute `statik`: is `static` meant?"]);
        check(quote!(#[module(skipp)]), Place::Field, &["unknown attribute `skipp`: is `skip` meant?"]);
        check(
            quote!(#[module(frozen)]),
            Place::Field,
            &["unknown attribute `frozen`: expected `static`, `skip`, `rename = \"..\"` or `bound = \"..\"`"],
        );
        check(
            quote!(#[module(3)]),
            Place::Field,
            &["expected `static`, `skip`, `rename = \"..\"` or `bound = \"..\"`"],
        );
    }

    #[test]
    fn all_errors_come_at_once() {
        check(
            quote!(#[module(skipp = "a b", static = true, rename)] #[module(rename = 3, , skip skip)]),
            Place::Field,
            &[
                "unknown attribute `skipp`: is `skip` meant?",
                "`static` takes no value",
                "`rename` takes a text: `rename = \"..\"`",
                "`rename` takes a text: `rename = \"..\"`",
                "expected `static`, `skip`, `rename = \"..\"` or `bound = \"..\"`",
                "`skip` takes no value",
            ],
        );
    }

    #[test]
    fn values_are_checked() {
        let rename = "`rename` takes a text: `rename = \"..\"`";
        check(quote!(#[module(rename("a"))]), Place::Field, &[rename]);
        check(quote!(#[module(rename = "a" "b")]), Place::Field, &[rename]);
        check(quote!(#[module(rename = "")]), Place::Field, &["a name can not be empty"]);
        let bound = "no bounds, such as \"T: Field, U: Static\"";
        check(quote!(#[module(bound = "T")]), Place::Type, &[bound]);
        check(quote!(#[module(bound = "T: Field,, U: Field")]), Place::Field, &[bound]);
        let parsed = check(quote!(#[module(bound = "T: Field, Vec<U>: Static,")]), Place::Type, &[]);
        assert_eq!(parsed.bound.unwrap().predicates.len(), 2);
        let parsed = check(quote!(#[module(bound = "")]), Place::Field, &[]);
        assert!(parsed.bound.unwrap().predicates.is_empty());
        let root = "not the path of a crate, such as \"::bridge_graph\"";
        check(quote!(#[module(crate = "a b")]), Place::Type, &[root]);
        check(quote!(#[module(crate = "")]), Place::Type, &[root]);
    }

    #[test]
    fn duplicates_and_misplaced_ones_are_errors() {
        check(
            quote!(#[module(static)] #[module(static)]),
            Place::Field,
            &["`static` stands here twice: remove one"],
        );
        check(
            quote!(#[module(crate = "a", crate = "b", static, skip)]),
            Place::Type,
            &[
                "`crate` stands here twice: remove one",
                "`static` belongs on a field, not on the type",
                "`skip` belongs on a field, not on the type",
            ],
        );
        check(quote!(#[module(crate = "a")]), Place::Field, &["`crate` belongs on the type, not on a field"]);
        check(
            quote!(#[module(skip, bound = "T: Field", crate = "a", rename = "b")]),
            Place::Variant,
            &[
                "`skip` belongs on a field, not on a variant",
                "`bound` belongs on the type, not on a variant",
                "`crate` belongs on the type, not on a variant",
            ],
        );
    }
}

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{Ident, Path};

use crate::attribute::Bound;
use crate::parse::{Module, Role};

/// The `where` clause of the implementations.
///
/// A field whose type mentions a type parameter is bounded itself, because what the parameter must be depends
/// on what the field does with it. A type that contains itself would then be defined by itself, so there
/// the parameters are bounded.
pub(crate) fn where_clause(module: &Module, root: &Path) -> TokenStream {
    let parameters: BTreeSet<&Ident> =
        module.generics.type_params().map(|parameter| &parameter.ident).collect();
    let written = module.generics.where_clause.iter().flat_map(|clause| &clause.predicates);
    if let Some(Bound { predicates, .. }) = &module.bound {
        let given = predicates.iter();
        return quote!(where #(#written,)* #(#parameters: 'static,)* #(#given,)*);
    }
    let mut bounds = Vec::new();
    for field in module.groups().into_iter().flatten() {
        if let Some(Bound { predicates, .. }) = &field.attributes.bound {
            bounds.extend(predicates.iter().map(ToTokens::to_token_stream));
            continue;
        }
        let ty = &field.ty;
        let mentioned = Mentioned::of(ty.to_token_stream(), &module.ident, &parameters);
        if mentioned.parameters.is_empty() {
            continue;
        }
        match field.role() {
            Role::Child if mentioned.itself => {
                bounds.extend(mentioned.parameters.iter().map(|parameter| quote!(#parameter: #root::Field)));
            }
            Role::Child => bounds.push(quote!(#ty: #root::Field)),
            Role::Static => bounds.push(quote!(#ty: #root::Static)),
            Role::Skip => bounds.push(quote!(
                #ty: ::core::default::Default + ::core::marker::Send + ::core::marker::Sync + 'static
            )),
        }
    }
    quote!(where #(#written,)* #(#parameters: 'static,)* #(#bounds,)*)
}

/// What a type's tokens mention.
#[derive(Default)]
struct Mentioned {
    itself: bool,
    parameters: BTreeSet<Ident>,
}

impl Mentioned {
    fn of(tokens: TokenStream, itself: &Ident, parameters: &BTreeSet<&Ident>) -> Self {
        let mut mentioned = Self::default();
        mentioned.walk(tokens, itself, parameters);
        mentioned
    }

    fn walk(&mut self, tokens: TokenStream, itself: &Ident, parameters: &BTreeSet<&Ident>) {
        let mut colons = 0;
        for token in tokens {
            match &token {
                TokenTree::Ident(ident) => {
                    self.itself |= ident == itself || ident == "Self";
                    // In `other::T`, `T` is not the parameter.
                    if colons < 2 && parameters.contains(ident) {
                        self.parameters.insert(ident.clone());
                    }
                }
                TokenTree::Group(group) => self.walk(group.stream(), itself, parameters),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            colons = match &token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons + 1,
                _ => 0,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;
    use crate::errors::Errors;

    fn check(input: syn::DeriveInput, expected: TokenStream) {
        let module = Module::parse(input, &mut Errors::default());
        let found = where_clause(&module, &parse_quote!(::graph));
        assert_eq!(found.to_string(), expected.to_string());
    }

    #[test]
    fn without_parameters_there_are_no_bounds() {
        check(
            parse_quote!(
                struct Net {
                    a: Linear,
                    #[module(static)]
                    b: Config,
                }
            ),
            quote!(where),
        );
        check(
            parse_quote!(
                struct Net<const N: usize> {
                    a: [Linear; N],
                }
            ),
            quote!(where),
        );
    }

    #[test]
    fn fields_are_bounded_by_what_is_done_with_them() {
        check(
            parse_quote!(
                struct Net<T: Clone, S, M = f32, const N: usize = 2>
                where
                    S: Copy,
                {
                    a: [T; N],
                    #[module(static)]
                    b: S,
                    #[module(skip)]
                    c: PhantomData<M>,
                    d: other::T,
                    e: macro_type!(T),
                }
            ),
            quote!(where S: Copy, M: 'static, S: 'static, T: 'static,
                [T; N]: ::graph::Field,
                S: ::graph::Static,
                PhantomData<M>: ::core::default::Default + ::core::marker::Send + ::core::marker::Sync + 'static,
                macro_type!(T): ::graph::Field,),
        );
    }

    #[test]
    fn a_type_that_contains_itself_bounds_its_parameters() {
        check(
            parse_quote!(
                struct Node<T> {
                    next: Option<Box<Node<T>>>,
                }
            ),
            quote!(where T: 'static, T: ::graph::Field,),
        );
        check(
            parse_quote!(
                struct Node<T> {
                    next: Vec<Self>,
                    value: T,
                }
            ),
            quote!(where T: 'static, T: ::graph::Field,),
        );
    }

    #[test]
    fn bounds_can_be_given() {
        check(
            parse_quote!(
                #[module(bound = "T: Mine, U: Field")]
                struct Net<T: Clone, U> {
                    a: Vec<T>,
                    b: U,
                }
            ),
            quote!(where T: 'static, U: 'static, T: Mine, U: Field,),
        );
        check(
            parse_quote!(
                enum Net<T, U> {
                    A {
                        #[module(bound = "T: Mine")]
                        a: Vec<T>,
                    },
                    B(U),
                    C(#[module(bound = "")] [U; 2]),
                }
            ),
            quote!(where T: 'static, U: 'static, T: Mine, U: ::graph::Field,),
        );
    }
}

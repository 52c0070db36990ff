use std::collections::BTreeMap;

use syn::{Data, DeriveInput, GenericParam, Member};

use crate::errors::Errors;
use crate::parse::{Body, Field, Key, Module, Role, Variant};

/// Refuses types that have no module form.
pub(crate) fn check_type(input: &DeriveInput, errors: &mut Errors) {
    match &input.data {
        Data::Struct(_) | Data::Enum(_) => {}
        Data::Union(_) => errors.push(&input.ident, "a union can not be a module: write a struct or an enum"),
    }
    for parameter in &input.generics.params {
        let attributes = match parameter {
            GenericParam::Type(parameter) => &parameter.attrs,
            GenericParam::Const(parameter) => &parameter.attrs,
            GenericParam::Lifetime(parameter) => {
                errors.push(
                    &parameter.lifetime,
                    "a module owns its parts, so it can not have a lifetime: hold the value itself, or a \
                     `Shared` one",
                );
                &parameter.attrs
            }
        };
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("module")) {
            errors.push(attribute, "`#[module(..)]` belongs on the type or on one of its fields");
        }
    }
}

/// Refuses attributes that exclude each other, and variants and fields that could not be told apart.
pub(crate) fn check_module(module: &Module, errors: &mut Errors) {
    for fields in module.groups() {
        for field in fields {
            check_conflicts(field, module, errors);
        }
        check_keys(fields, errors);
    }
    if let Body::Enum(variants) = &module.body {
        check_variants(variants, errors);
    }
}

fn check_conflicts(field: &Field, module: &Module, errors: &mut Errors) {
    if let (Some(bound), Some(_)) = (&field.attributes.bound, &module.bound) {
        errors.push(&bound.name, "the type has a `bound` for all of its fields: remove one");
    }
    let Some(skip) = &field.attributes.skip else { return };
    if field.attributes.static_.is_some() {
        errors.push(
            skip,
            "a field is `static` (kept in the description) or `skip` (rebuilt by `Default`): remove one",
        );
    }
    if let Some(rename) = &field.attributes.rename {
        errors.push(rename, "a skipped field has no name in files: remove `rename` or `skip`");
    }
}

fn check_keys(fields: &[Field], errors: &mut Errors) {
    let mut known: BTreeMap<&Key, &Field> = BTreeMap::new();
    for field in fields.iter().filter(|field| field.role() != Role::Skip) {
        let Some(other) = known.insert(&field.key, field) else { continue };
        // Of the two, one was renamed, or both were.
        let (renamed, other) =
            if field.attributes.rename.is_some() { (field, other) } else { (other, field) };
        if let (Key::Name(name), Some(rename)) = (&renamed.key, &renamed.attributes.rename) {
            let other = match &other.member {
                Member::Named(ident) => ident.to_string(),
                Member::Unnamed(index) => index.index.to_string(),
            };
            errors.push(rename, format!("the field `{other}` has the name `{name}` too: choose another"));
        }
    }
}

fn check_variants(variants: &[Variant], errors: &mut Errors) {
    let mut known: BTreeMap<&str, &Variant> = BTreeMap::new();
    for variant in variants {
        let Some(other) = known.insert(&variant.name, variant) else { continue };
        // Of the two, one was renamed, or both were.
        let (renamed, other) =
            if variant.attributes.rename.is_some() { (variant, other) } else { (other, variant) };
        errors.push(
            &renamed.attributes.rename,
            format!("the variant `{}` has the name `{}` too: choose another", other.ident, renamed.name),
        );
    }
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    fn check(tokens: proc_macro2::TokenStream, expected: &[&str]) {
        let input: DeriveInput = syn::parse2(tokens).unwrap();
        let mut errors = Errors::default();
        check_type(&input, &mut errors);
        check_module(&Module::parse(input, &mut errors), &mut errors);
        let messages = errors.messages();
        assert_eq!(messages.len(), expected.len(), "{messages:?}");
        for (message, expected) in messages.iter().zip(expected) {
            assert!(message.contains(expected), "{message:?} lacks {expected:?}");
        }
    }

    #[test]
    fn structs_and_enums_are_fine() {
        check(
            quote!(
                enum Either<T> {
                    A(T),
                    B { a: T, b: u32 },
                    C,
                }
            ),
            &[],
        );
        check(
            quote!(
                struct Identity;
            ),
            &[],
        );
        check(
            quote!(
                struct Pair(A, B);
            ),
            &[],
        );
        check(
            quote!(
                struct Stack<T: Clone, const N: usize>
                where
                    T: Send,
                {
                    layers: [T; N],
                }
            ),
            &[],
        );
    }

    #[test]
    fn unions_are_refused() {
        check(quote!(union Bits { a: u32, b: f32 }), &["write a struct"]);
    }

    #[test]
    fn lifetimes_are_refused() {
        check(
            quote!(
                struct View<'a, 'b> {
                    a: &'a A,
                    b: &'b B,
                }
            ),
            &["a lifetime", "a lifetime"],
        );
    }

    #[test]
    fn a_parameter_takes_no_attribute() {
        check(
            quote!(
                struct Head<#[module(static)] T>(T);
            ),
            &["belongs on the type"],
        );
    }

    #[test]
    fn attributes_that_exclude_each_other() {
        check(
            quote!(
                struct Net {
                    #[module(static, skip)]
                    a: u32,
                    #[module(skip, rename = "c")]
                    b: u32,
                }
            ),
            &["remove one", "remove `rename` or `skip`"],
        );
    }

    #[test]
    fn bounds_stand_in_one_place() {
        let tokens = quote!(
            #[module(bound = "T: Field")]
            struct Net<T> {
                #[module(bound = "T: Field")]
                a: T,
            }
        );
        check(tokens, &["remove one"]);
    }

    #[test]
    fn two_variants_with_one_name() {
        let tokens = quote!(
            enum Head {
                #[module(rename = "Own")]
                A,
                Own(Param),
                #[module(rename = "Shared")]
                B,
            }
        );
        check(tokens, &["the variant `Own` has the name `Own` too"]);
        let tokens = quote!(
            enum Head {
                A {
                    #[module(rename = "b")]
                    a: A,
                    b: B,
                },
                B {
                    b: B,
                },
            }
        );
        check(tokens, &["the field `b` has the name `b` too"]);
    }

    #[test]
    fn two_fields_with_one_key() {
        let tokens = quote!(
            struct Net {
                #[module(rename = "bias")]
                a: A,
                bias: B,
            }
        );
        check(tokens, &["the field `bias` has the name `bias` too"]);
        let tokens = quote!(
            struct Net(#[module(rename = "x")] A, #[module(rename = "x")] B);
        );
        check(tokens, &["the field `0` has the name `x` too"]);
        check(
            quote!(
                struct Net {
                    #[module(rename = "b")]
                    a: A,
                    #[module(skip)]
                    b: B,
                }
            ),
            &[],
        );
        // A swap is none.
        check(
            quote!(
                struct Net {
                    #[module(rename = "b")]
                    a: A,
                    #[module(rename = "a")]
                    b: B,
                }
            ),
            &[],
        );
    }

    #[test]
    fn errors_of_all_steps_come_together() {
        check(
            quote!(
                #[module(crat = "x")]
                struct Net<'a> {
                    #[module(static, skip)]
                    a: &'a A,
                }
            ),
            &["a lifetime", "is `crate` meant?", "remove one"],
        );
    }
}

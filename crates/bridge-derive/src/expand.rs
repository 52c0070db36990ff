use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::{DeriveInput, GenericParam, Ident, LitStr, Member, Path, parse_quote};

use crate::bounds::where_clause;
use crate::check::{check_module, check_type};
use crate::errors::Errors;
use crate::parse::{Body, Field, Key, Module, Role, Variant};

/// The whole derive; `root` is the path of the crate that the expansion names by default.
pub(crate) fn derive(input: TokenStream, root: &str) -> TokenStream {
    let parsed =
        syn::parse2::<DeriveInput>(input).and_then(|input| Ok((input, syn::parse_str::<Path>(root)?)));
    let (input, root) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return error.to_compile_error(),
    };
    let mut errors = Errors::default();
    check_type(&input, &mut errors);
    let mut module = Module::parse(input, &mut errors);
    check_module(&module, &mut errors);
    let root = module.root.take().unwrap_or(root);
    match errors.to_compile_error() {
        None => expand(&module, &root),
        Some(errors) => {
            let fallback = fallback(module, &root);
            quote!(#errors #fallback)
        }
    }
}

fn expand(module: &Module, root: &Path) -> TokenStream {
    let mut keys = Keys { root, statics: Vec::new() };
    let name = LitStr::new(&module.name, Span::call_site());
    let bodies = match &module.body {
        Body::Struct(fields) => {
            let steps = Steps::of(fields, &mut keys, |field, _| {
                let member = respan(&field.member);
                quote!(&self.#member)
            });
            let Steps { visits, rebuilds, values, .. } = steps;
            let structure = quote!(#root::Structure::Module(#root::private::Name::from_static(&#name)));
            Bodies {
                visit: quote!(
                    visitor.enter(#structure, ::core::option::Option::Some(self))?;
                    #(#visits)*
                    visitor.exit()
                ),
                rebuild: quote!(
                    source.enter(&#structure)?;
                    #(#rebuilds)*
                    source.exit()?;
                    ::core::result::Result::Ok(Self { #(#values,)* })
                ),
            }
        }
        Body::Enum(variants) => of_enum(variants, &name, root, &mut keys),
    };
    let (keys, directions) = (keys.statics, directions(root));
    implementations(module, root, &where_clause(module, root), &quote!(#(#keys)* #directions), &bodies)
}

fn of_enum(variants: &[Variant], name: &LitStr, root: &Path, keys: &mut Keys<'_>) -> Bodies {
    let (mut visits, mut rebuilds) = (Vec::new(), Vec::new());
    for variant in variants {
        let steps = Steps::of(&variant.fields, keys, |_, binding| quote!(#binding));
        let Steps { patterns, visits: fields, rebuilds: reads, values } = steps;
        let mut ident = variant.ident.clone();
        ident.set_span(Span::call_site());
        let variant = LitStr::new(&variant.name, Span::call_site());
        visits.push(quote!(
            Self::#ident { #(#patterns,)* .. } => {
                let variant = #root::Structure::variant(&#name, &#variant);
                visitor.enter(variant, ::core::option::Option::Some(self))?;
                #(#fields)*
            }
        ));
        rebuilds.push(quote!(
            #variant => {
                #(#reads)*
                source.exit()?;
                ::core::result::Result::Ok(Self::#ident { #(#values,)* })
            }
        ));
    }
    let names = variants.iter().map(|variant| &variant.name);
    Bodies {
        visit: match variants {
            [] => quote!(match *self {}),
            _ => quote!(
                match self { #(#visits)* }
                visitor.exit()
            ),
        },
        rebuild: quote!(
            match source.enter_variant(&#root::private::Name::from_static(&#name))? {
                #(#rebuilds)*
                other => ::core::result::Result::Err(source.unknown_variant(#name, other, &[#(#names),*])),
            }
        ),
    }
}

/// The statics that hold the keys of fields.
struct Keys<'a> {
    root: &'a Path,
    statics: Vec<TokenStream>,
}

impl Keys<'_> {
    fn add(&mut self, key: &Key) -> Ident {
        let root = self.root;
        let ident = format_ident!("__KEY_{}", self.statics.len());
        let key = match key {
            Key::Index(index) => quote!(#root::private::PathKey::Index(#index)),
            Key::Name(name) => quote!(#root::private::PathKey::from_static(&#name)),
        };
        self.statics.push(quote!(static #ident: #root::private::PathKey = #key;));
        ident
    }
}

/// What is done with fields that stand side by side.
#[derive(Default)]
struct Steps {
    /// Binds them, in a pattern.
    patterns: Vec<TokenStream>,
    visits: Vec<TokenStream>,
    rebuilds: Vec<TokenStream>,
    values: Vec<TokenStream>,
}

impl Steps {
    /// `place` is where a field is found, given the name that a pattern binds it to.
    fn of(fields: &[Field], keys: &mut Keys<'_>, place: impl Fn(&Field, &Ident) -> TokenStream) -> Self {
        let mut steps = Self::default();
        for (number, field) in fields.iter().enumerate() {
            let (member, ty) = (respan(&field.member), &field.ty);
            let direction = match field.role() {
                Role::Skip => {
                    steps.values.push(quote!(#member: <#ty as ::core::default::Default>::default()));
                    continue;
                }
                Role::Static => quote!(__static),
                Role::Child => quote!(__child),
            };
            let (key, binding) = (keys.add(&field.key), format_ident!("field_{number}"));
            let place = place(field, &binding);
            steps.patterns.push(quote!(#member: #binding));
            steps.visits.push(quote!((#direction::<#ty>().0)(visitor, &#key, #place)?;));
            steps.rebuilds.push(quote!(let #binding = (#direction::<#ty>().1)(source, &#key)?;));
            steps.values.push(quote!(#member: #binding));
        }
        steps
    }
}

/// A member with the expansion's own span: for a deprecated field, it does not count as a use.
fn respan(member: &Member) -> Member {
    let mut member = member.clone();
    match &mut member {
        Member::Named(ident) => ident.set_span(Span::call_site()),
        Member::Unnamed(index) => index.span = Span::call_site(),
    }
    member
}

/// How a child, and a static field, is visited and rebuilt.
///
/// Both directions come from one function with one bound, because the compiler reports a type that does not
/// meet it once if both errors read alike.
fn directions(root: &Path) -> TokenStream {
    let rebuild = quote!(fn(&mut #root::Source<'_>, &#root::private::PathKey) -> #root::private::Result<F>);
    let visit = quote!(
        fn(&mut dyn #root::Visitor, &#root::private::PathKey, &F) -> #root::private::Result<()>
    );
    quote! {
        #[inline]
        fn __child<F: #root::Field>() -> (#visit, #rebuild) {
            (|visitor, key, field| visitor.child(key, field), |source, key| source.child(key))
        }
        #[inline]
        fn __static<F: #root::Static>() -> (#visit, #rebuild) {
            (#root::visit_static, |source, key| source.static_child(key))
        }
    }
}

/// Implementations for a type with errors, so that these are not followed by others about missing traits.
fn fallback(mut module: Module, root: &Path) -> TokenStream {
    for parameter in &mut module.generics.params {
        match parameter {
            GenericParam::Lifetime(parameter) => parameter.bounds.push(parse_quote!('static)),
            GenericParam::Type(parameter) => parameter.bounds.push(parse_quote!(#root::Field)),
            GenericParam::Const(_) => {}
        }
    }
    // Never run: the type does not compile.
    let bodies = Bodies { visit: quote!(::core::unreachable!()), rebuild: quote!(::core::unreachable!()) };
    let written = &module.generics.where_clause;
    implementations(&module, root, &quote!(#written), &TokenStream::new(), &bodies)
}

struct Bodies {
    visit: TokenStream,
    rebuild: TokenStream,
}

fn implementations(
    module: &Module,
    root: &Path,
    bounds: &TokenStream,
    keys: &TokenStream,
    Bodies { visit, rebuild }: &Bodies,
) -> TokenStream {
    let (ident, name) = (&module.ident, &module.name);
    let (parameters, arguments, _) = module.generics.split_for_impl();
    quote! {
        const _: () = {
            #keys

            #[automatically_derived]
            impl #parameters #root::Visit for #ident #arguments #bounds {
                fn visit(&self, visitor: &mut dyn #root::Visitor) -> #root::private::Result<()> {
                    #visit
                }
            }

            #[automatically_derived]
            impl #parameters #root::Field for #ident #arguments #bounds {
                fn rebuild(source: &mut #root::Source<'_>) -> #root::private::Result<Self> {
                    #rebuild
                }
            }

            #[automatically_derived]
            impl #parameters #root::StatefulModule for #ident #arguments #bounds {
                fn type_name(&self) -> &'static str {
                    #name
                }
                fn static_type_name() -> &'static str {
                    #name
                }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: TokenStream, root: &str, expected: &[&str], absent: &[&str]) {
        let expanded = derive(input, root).to_string().replace(' ', "");
        for expected in expected {
            assert!(expanded.contains(&expected.replace(' ', "")), "{expected:?} is not in {expanded}");
        }
        for absent in absent {
            assert!(!expanded.contains(&absent.replace(' ', "")), "{absent:?} is in {expanded}");
        }
    }

    #[test]
    fn visits_and_rebuilds_in_order_of_keys() {
        check(
            quote!(
                struct Net {
                    second: Linear,
                    #[module(static)]
                    first: Config,
                    #[module(skip)]
                    cache: Cache,
                }
            ),
            "::graph",
            &[
                "Name::from_static(&\"Net\")",
                "static __KEY_0: ::graph::private::PathKey = ::graph::private::PathKey::from_static(&\"first\");",
                "(__static::<Config>().0)(visitor, &__KEY_0, &self.first)?; \
                 (__child::<Linear>().0)(visitor, &__KEY_1, &self.second)?; visitor.exit()",
                "let field_1 = (__static::<Config>().1)(source, &__KEY_0)?; \
                 let field_2 = (__child::<Linear>().1)(source, &__KEY_1)?; source.exit()?;",
                "cache: <Cache as ::core::default::Default>::default()",
            ],
            &["compile_error"],
        );
    }

    #[test]
    fn the_root_can_be_given() {
        check(
            quote!(
                #[module(crate = "mine::graph")]
                struct Net(Linear);
            ),
            "::default_root",
            &["impl mine::graph::Visit for Net", "mine::graph::private::PathKey::Index(0usize)"],
            &["default_root"],
        );
    }

    #[test]
    fn variants_are_matched() {
        check(
            quote!(
                enum Head {
                    Tied,
                    #[module(rename = "own")]
                    Own {
                        kernel: Param,
                        #[module(skip)]
                        cache: Cache,
                    },
                    Two(Param, Param),
                }
            ),
            "::graph",
            &[
                "Self::Tied { .. } => { let variant = ::graph::Structure::variant(&\"Head\", &\"Tied\");",
                "Self::Own { kernel: field_1, .. } => { let variant = ::graph::Structure::variant(&\"Head\", &\"own\");",
                "Self::Two { 0: field_0, 1: field_1, .. }",
                "\"own\" => { let field_1 = (__child::<Param>().1)(source, &__KEY_0)?; source.exit()?; \
                 ::core::result::Result::Ok(Self::Own { cache: <Cache as ::core::default::Default>::default(), \
                 kernel: field_1, })",
                "source.unknown_variant(\"Head\", other, &[\"Tied\", \"own\", \"Two\"])",
            ],
            &["compile_error"],
        );
        check(
            quote!(
                enum Never {}
            ),
            "::graph",
            &["match *self {}"],
            &["compile_error"],
        );
    }

    #[test]
    fn errors_come_with_implementations() {
        check(
            quote!(
                enum Either<'a, T> {
                    A(&'a T),
                }
            ),
            "::graph",
            &[
                "compile_error!",
                "impl<'a: 'static, T: ::graph::Field> ::graph::Visit for Either<'a, T>",
                "::graph::StatefulModule for Either<'a, T>",
            ],
            &["__KEY"],
        );
        check(
            quote!(
                fn not_a_type() {}
            ),
            "::graph",
            &["compile_error!"],
            &["impl"],
        );
    }
}

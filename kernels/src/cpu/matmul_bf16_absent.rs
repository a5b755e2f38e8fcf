//! Products in bf16 where no processor has the instructions for them.

use super::matmul::Product;
use super::pool::Pool;
use super::simd::amx::Amx;

/// Is never called: there is no [`Amx`].
pub fn product(_: &Pool, amx: Amx, _: Product<'_>, _: &mut [f32]) {
    match amx {}
}

//! Tensor maps: what Hopper's bulk tensor copies are told about a matrix.
//!
//! A kernel gets the map by value (128 bytes, aligned to 64). The driver makes it; cust does not
//! declare that call, so its address is asked for once.

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use cust::sys;

/// What a matrix holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 16-bit floats with the exponent of f32.
    Bf16,
    /// 32-bit floats.
    F32,
}

impl Element {
    /// Bytes of one element.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Bf16 => 2,
            Self::F32 => 4,
        }
    }

    /// The driver's number for the type (`CUtensorMapDataType`).
    const fn code(self) -> c_int {
        match self {
            Self::Bf16 => 9,
            Self::F32 => 7,
        }
    }
}

/// A row-major matrix in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// Address of the first element.
    pub address: u64,
    /// What it holds.
    pub element: Element,
    /// Rows.
    pub rows: u32,
    /// Columns, which are adjacent in memory.
    pub columns: u32,
}

impl Matrix {
    /// Whether a tensor map can describe it: something in it, and addresses of rows that are
    /// multiples of 16 bytes.
    pub const fn fits(&self) -> bool {
        self.rows > 0
            && self.columns > 0
            && self.address.is_multiple_of(16)
            && (self.columns as u64 * self.element.bytes()).is_multiple_of(16)
    }
}

/// Why there is no tensor map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorMapError {
    /// The driver lacks the call.
    #[error(
        "this CUDA driver has no cuTensorMapEncodeTiled (code {0}); version 12 or later is needed \
         for the sm_90a kernels"
    )]
    NoEncoder(u32),
    /// The driver refused the matrix.
    #[error("the CUDA driver refused a tensor map of {0:?}: code {1}")]
    Refused(Matrix, u32),
}

/// 128 bytes that the driver alone understands.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct TensorMap([u64; 16]);

/// `cuTensorMapEncodeTiled`.
type Encode = unsafe extern "C" fn(
    map: *mut TensorMap,
    element: c_int,
    rank: u32,
    address: *mut c_void,
    sizes: *const u64,
    strides: *const u64,
    piece: *const u32,
    element_strides: *const u32,
    interleave: c_int,
    swizzle: c_int,
    promotion: c_int,
    fill: c_int,
) -> c_int;

/// `CU_TENSOR_MAP_SWIZZLE_128B`.
const SWIZZLE_128_BYTES: c_int = 3;
/// `CU_TENSOR_MAP_L2_PROMOTION_L2_256B`.
const PROMOTION_256_BYTES: c_int = 3;

impl TensorMap {
    /// A map by which kernels copy pieces of `piece_rows` rows of 128 bytes, swizzled; what lies
    /// outside the matrix is read as zeros and not written.
    ///
    /// # Errors
    /// An old driver, or a matrix that does not [fit](Matrix::fits).
    pub fn new(matrix: Matrix, piece_rows: u32) -> Result<Self, TensorMapError> {
        let encode = encoder()?;
        let sizes = [u64::from(matrix.columns), u64::from(matrix.rows)];
        let strides = [sizes[0] * matrix.element.bytes()];
        let piece = [(128 / matrix.element.bytes()) as u32, piece_rows];
        let mut map = Self([0; 16]);
        // SAFETY: the function has this signature since CUDA 12; it reads two sizes, one stride,
        // two lengths and two steps, and writes the map's 128 bytes. The address is not followed.
        let code = unsafe {
            encode(
                &raw mut map,
                matrix.element.code(),
                2,
                matrix.address as *mut c_void,
                sizes.as_ptr(),
                strides.as_ptr(),
                piece.as_ptr(),
                [1, 1].as_ptr(),
                0,
                SWIZZLE_128_BYTES,
                PROMOTION_256_BYTES,
                0,
            )
        };
        if code == 0 { Ok(map) } else { Err(TensorMapError::Refused(matrix, code as u32)) }
    }
}

/// Asks the driver for the call, once in a program.
fn encoder() -> Result<Encode, TensorMapError> {
    static FOUND: OnceLock<Result<usize, u32>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let mut address: *mut c_void = std::ptr::null_mut();
        // SAFETY: a C string and a place for one pointer; 12000 is the version that brought the
        // call.
        let code = unsafe {
            sys::cuGetProcAddress(c"cuTensorMapEncodeTiled".as_ptr(), &raw mut address, 12_000, 0)
        };
        match code {
            sys::CUresult::CUDA_SUCCESS if !address.is_null() => Ok(address as usize),
            other => Err(other as u32),
        }
    });
    let address = found.map_err(TensorMapError::NoEncoder)?;
    // SAFETY: the driver gave this address for that name, and stays loaded.
    Ok(unsafe { std::mem::transmute::<usize, Encode>(address) })
}

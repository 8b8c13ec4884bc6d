#!/bin/sh
# Builds stand-ins for the driver and for NVIDIA's libraries into OUT, fit for what PROVIDER imports.
# usage: build.sh PROVIDER OUT      PROVIDER: libonnxruntime_providers_cuda.so
set -eu
provider=$1
out=$2
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"

# Imports name the library they belong to: "cudaMalloc@libcudart.so.13"; the driver's are plain.
nm -D --undefined-only "$provider" | awk '{print $NF}' | grep -E '^(__)?cu(da|blas|rand|[A-Z])' | sort -u >"$out/imports"
gcc -c -fPIC -O1 -w "$here/stand-in.c" -o "$out/stand-in.o"
nm --defined-only "$out/stand-in.o" | awk '$2 == "T" {print $3}' | sort -u >"$out/written"
sed 's/@.*//' "$out/imports" | sort -u | comm -23 - "$out/written" | sed 's/.*/int &(void) { return 0; }/' >"$out/rest.c"

# libcudart has all the functions, so that memory and captures are one; under the versions of the libraries they are
# looked for in. The others are shells that lead to it.
{
  for library in libcudart.so.13 libcublas.so.13 libcublasLt.so.13 libcurand.so.10; do
    symbols=$(sed -n "s/@$library\$/;/p" "$out/imports" | tr '\n' ' ')
    [ "$library" != libcudart.so.13 ] || symbols="$symbols cudaStreamQuery; cudaGraphUpload;"
    [ -z "$symbols" ] || echo "$library { global: $symbols };"
  done
} >"$out/versions"
gcc -shared -fPIC -w "$out/stand-in.o" "$out/rest.c" -o "$out/libcudart.so.13" \
  -Wl,-soname,libcudart.so.13 -Wl,--version-script="$out/versions" -lpthread
for library in libcuda.so.1 libcublas.so.13 libcublasLt.so.13 libcurand.so.10; do
  version=$(echo "$library" | tr -c 'a-zA-Z0-9\n' _)
  echo "int stand_in_$version;" >"$out/shell.c"
  echo "$library { global: stand_in_$version; };" >"$out/versions"
  gcc -shared -fPIC "$out/shell.c" -o "$out/$library" -Wl,-soname,"$library" -Wl,--version-script="$out/versions" \
    -Wl,--no-as-needed -L"$out" -l:libcudart.so.13 -Wl,-rpath,'$ORIGIN'
done
rm "$out/stand-in.o" "$out/rest.c" "$out/shell.c" "$out/versions" "$out/imports" "$out/written"

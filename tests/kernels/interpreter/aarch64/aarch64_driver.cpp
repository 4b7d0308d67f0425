// Runs one launch of a compiled kernel on an emulated aarch64: what launch.py does through ctypes, with files instead.
// aarch64_driver FOLDER: FOLDER/launch.txt says what to run (see emulated.py), FOLDER/N.bin hold the buffers; outputs go
// back there, with FOLDER/regions.bin, issues.bin and report.txt.
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <fstream>
#include <string>
#include <vector>

#include "runtime.cpp"

int main(int, char** argv) {
  const std::string folder = std::string(argv[1]) + "/";
  std::ifstream in(folder + "launch.txt");
  std::string library;
  mtl_launch launch = {};
  unsigned count = 0;
  in >> library >> launch.grid[0] >> launch.grid[1] >> launch.grid[2];
  in >> launch.threadgroup[0] >> launch.threadgroup[1] >> launch.threadgroup[2] >> launch.seed >> launch.check;
  in >> launch.flush >> count;
  std::vector<mtl_region> regions(count);
  std::vector<std::vector<char>> data(count);
  std::vector<std::string> names(count);
  std::vector<long> offsets(count);
  std::vector<void*> arguments(count);
  for (unsigned i = 0; i < count; i++) {
    mtl_region& r = regions[i];
    in >> names[i] >> r.size >> r.element >> r.space >> r.initialized >> r.floating >> offsets[i];
    data[i].resize(r.size + 64);
    std::ifstream(folder + std::to_string(i) + ".bin", std::ios::binary).read(data[i].data(), (std::streamsize)r.size);
    r.name = names[i].c_str(), r.data = data[i].data();
  }
  void* kernel = dlopen(library.c_str(), RTLD_NOW);
  if (!in || !kernel) return std::fprintf(stderr, "%s\n", kernel ? "bad launch.txt" : dlerror()), 2;
  launch.entry = (mtl_entry)dlsym(kernel, "mtl_entry");
  if (launch.check && !mtl_check_begin(regions.data(), count)) return 3;
  for (unsigned i = 0; i < count; i++) arguments[i] = (char*)(launch.check ? regions[i].mapped : regions[i].data) + offsets[i];
  launch.buffers = arguments.data();
  uint64_t used = 0;
  const int status = mtl_run(&launch, &used);
  if (launch.check) mtl_check_end(count, status == MTL_OK);
  for (unsigned i = 0; i < count; i++)
    std::ofstream(folder + std::to_string(i) + ".out", std::ios::binary).write(data[i].data(), (std::streamsize)regions[i].size);
  std::ofstream(folder + "regions.bin", std::ios::binary).write((const char*)regions.data(), count * sizeof(mtl_region));
  std::ofstream(folder + "issues.bin", std::ios::binary)
      .write((const char*)mtl_check_issues(), mtl_check_issue_count() * (std::streamsize)sizeof(mtl_issue));
  std::ofstream report(folder + "report.txt");
  report << status << " " << used << " " << mtl_check_image();
  const mtl_region* shared = nullptr;
  for (int i = 0, n = mtl_check_threadgroup_regions(&shared); i < n; i++) report << " " << shared[i].name;
}

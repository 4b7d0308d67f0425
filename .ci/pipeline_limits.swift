// Prints, for every kernel in FOLDER/launches.txt, how many threads its pipeline takes and the threadgroup memory that it
// holds; fails where a launch has more threads than that. Not yet run: no Mac was at hand.
import Foundation
import Metal

guard let device = MTLCreateSystemDefaultDevice() else {
  print("no Metal device: pipelines not made")
  exit(0)
}
let folder = URL(fileURLWithPath: CommandLine.arguments[1])
var refused = 0
print("\(device.name): threads that the pipeline takes, threads of the launch, bytes of threadgroup memory")
for line in try String(contentsOf: folder.appendingPathComponent("launches.txt"), encoding: .utf8).split(separator: "\n") {
  let words = line.split(separator: " ")
  let library = try device.makeLibrary(URL: folder.appendingPathComponent("\(words[0]).metallib"))
  for name in library.functionNames {
    let pipeline = try device.makeComputePipelineState(function: library.makeFunction(name: name)!)
    let limit = pipeline.maxTotalThreadsPerThreadgroup
    print("\(limit)\t\(words[1])\t\(pipeline.staticThreadgroupMemoryLength)\t\(name)")
    if limit < Int(words[1])! {
      refused += 1
    }
  }
}
if refused > 0 {
  print("\(refused) launches have more threads than their pipelines take")
  exit(1)
}

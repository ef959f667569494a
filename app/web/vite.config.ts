import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { defineConfig, type Plugin } from 'vite'

// What the build is made from; tests compare these checksums with the files, without Node.
const SOURCES = ['index.html', 'package.json', 'package-lock.json', 'tsconfig.json', 'vite.config.ts', 'src', 'public']

function* filesOf(path: string): Generator<string> {
  const found = statSync(path, { throwIfNoEntry: false })
  if (found?.isDirectory()) {
    for (const name of readdirSync(path).sort()) yield* filesOf(`${path}/${name}`)
  } else if (found) {
    yield path
  }
}

function sha256(content: Uint8Array | string): string {
  return createHash('sha256').update(content).digest('hex')
}

const manifest: Plugin = {
  name: 'manifest',
  buildStart() {
    const named = readFileSync('public/licenses.txt', 'utf8')
    const { dependencies } = JSON.parse(readFileSync('package.json', 'utf8')) as { dependencies: object }
    const missing = Object.keys(dependencies).filter((name) => !named.includes(name))
    if (missing.length) this.error(`public/licenses.txt does not name ${missing.join(', ')}`)
  },
  generateBundle() {
    const sources = Object.fromEntries(
      SOURCES.flatMap((path) => [...filesOf(path)]).map((path) => [path, sha256(readFileSync(path))]),
    )
    this.emitFile({ type: 'asset', fileName: 'sources.json', source: JSON.stringify(sources, null, 1) + '\n' })
  },
}

export default defineConfig({
  root: import.meta.dirname,
  base: './', // the page works below any path
  resolve: { conditions: ['onnxruntime-web-use-extern-wasm', 'module', 'browser', 'import', 'default'] },
  build: {
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    chunkSizeWarningLimit: 2000,
    rolldownOptions: {
      input: { index: 'index.html', chexvision: 'src/chexvision.ts' },
      preserveEntrySignatures: 'exports-only',
      // chexvision.js is imported by its name; the others have their content in their names and can be cached forever.
      output: { entryFileNames: ({ name }) => (name === 'chexvision' ? '[name].js' : 'assets/[name]-[hash].js') },
    },
  },
  worker: { format: 'es' },
  plugins: [manifest],
})

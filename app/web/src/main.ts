import { h, render } from 'preact'
import { App } from './ui/App'
import { restoreTheme } from './ui/theme'
import './styles/page.css'
import './styles/work.css'
import './styles/print.css'

restoreTheme()
render(h(App, null), document.querySelector('#page')!)
